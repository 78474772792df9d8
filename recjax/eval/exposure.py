"""What a policy showed and what came back, accumulated on the device while a loop runs.

>>> import jax.numpy as jnp
>>> items = Items(popularity=jnp.array([5.0, 3.0, 0.0]), is_new=jnp.array([False, False, True]))
>>> exposure = Exposure.empty(num_items=3)
>>> slate = jnp.array([[0, 2], [1, -1]])
>>> click = jnp.array([[1.0, 0.0], [0.0, 0.0]])
>>> exposure = exposure.update(slate, Response(click=click), reward=click, items=items)
>>> summary = exposure.summary(items)
>>> [round(float(summary[name]), 3) for name in ("ctr", "click_rate", "novelty_new")]
[0.333, 0.5, 0.333]
"""

from __future__ import annotations

import jax.numpy as jnp
from flax import struct

from recjax.eval import catalogue_metrics as catalogue
from recjax.eval.list_metrics import intra_list_diversity
from recjax.response import Response
from recjax.types import Array, Items


@struct.dataclass
class Total:
    """A running sum as two floats, ``high + low``: 48 bits, so counts stay exact to ``2**48``.

    One float32 stops counting at ``2**24``.

    References:
      Dekker, "A floating-point technique for extending the available precision", 1971.
    """

    high: Array
    low: Array

    @classmethod
    def zero(cls, shape: tuple[int, ...] = ()) -> Total:
        """Empty sums, one for each place of ``shape``: many cost what one does in a step of a scan."""
        return cls(high=jnp.zeros(shape, jnp.float32), low=jnp.zeros(shape, jnp.float32))

    def add(self, x: Array) -> Total:
        """This sum and one more term."""
        rounded = self.high + x
        of_x = rounded - self.high
        lost = (self.high - (rounded - of_x)) + (x - of_x) + self.low
        high = rounded + lost
        return Total(high=high, low=lost - (high - rounded))

    def __add__(self, other: Total) -> Total:
        return self.add(other.high).add(other.low)

    @property
    def value(self) -> Array:
        """The sum, rounded to one float32."""
        return self.high + self.low


SUMS = {
    "slates": "slates with at least one item",
    "slots": "slots shown",
    "reward": "rewards",
    "clicks": "clicked slots",
    "clicked_slates": "slates with at least one click",
    "conversions": "converted slots",
    "satisfaction": "satisfaction",
    "diversity": "intra-list diversity of slates with at least two items",
    "diverse_slates": "slates with at least two items",
}
"""What an :class:`Exposure` sums."""


@struct.dataclass
class Exposure:
    """Sums and counts over slates, from which every metric of a loop follows.

    Updating costs one scatter of the slate and a few sums, so it can run in every step of
    a scan, under ``jax.vmap`` over seeds; nothing here is a mean until :meth:`summary`.
    Slots that hold ``PAD_ID`` were not shown and nothing about them counts; a slate
    without items is not a slate.

    Attributes:
      counts: ``i32[N]`` slots that showed each item; exact while no item is shown more
        than ``2**31 - 1`` times.
      sums: those of :data:`SUMS`, in one array so that a step adds all of them at once.
    """

    counts: Array
    sums: Total

    @classmethod
    def empty(cls, num_items: int) -> Exposure:
        """Nothing was shown yet."""
        return cls(counts=jnp.zeros(num_items, jnp.int32), sums=Total.zero((len(SUMS),)))

    def update(
        self, slate: Array, response: Response, reward: Array, items: Items, content: Array | None = None
    ) -> Exposure:
        """Counts one slate for each of a batch of users.

        Args:
          slate: ``i32[B, K]`` items shown, ``PAD_ID`` in empty slots.
          response: signals ``f32[B, K]``. The metrics of a signal that it does not have are NaN.
          reward: ``f32[B, K]``, one value a slot.
          items: the catalogue.
          content: ``f32[N, F]`` vectors that diversity is measured with; by default
            ``items.content``. Diversity is NaN when there is neither.

        Raises:
          ValueError: ``reward`` does not have the shape of ``slate``.
        """
        if reward.shape != slate.shape:
            raise ValueError(f"reward has shape {reward.shape}; it needs one value a slot, {slate.shape}.")
        content = items.content if content is None else content
        shown = (slate >= 0) & (slate < self.counts.shape[0])
        click = response.get("click")
        clicked = jnp.full(slate.shape[0], jnp.nan) if click is None else jnp.any(shown & (click > 0), axis=-1)

        def total(values: Array | None) -> Array:
            return jnp.sum(jnp.where(shown, values, 0.0)) if values is not None else jnp.array(jnp.nan)

        if content is None:
            diversity = jnp.full(slate.shape[0], jnp.nan)
        else:
            diversity = intra_list_diversity(jnp.where(shown, slate, -1), content)
        several = jnp.sum(shown, axis=-1) > 1
        of_step = {
            "slates": _count(jnp.any(shown, axis=-1)),
            "slots": _count(shown),
            "reward": total(reward),
            "clicks": total(click),
            "clicked_slates": _count(clicked),
            "conversions": total(response.get("conversion")),
            "satisfaction": total(response.get("satisfaction")),
            "diversity": jnp.sum(jnp.where(several, diversity, 0.0)),
            "diverse_slates": _count(several),
        }
        return Exposure(
            counts=catalogue.add_counts(self.counts, slate),
            sums=self.sums.add(jnp.stack([of_step[name] for name in SUMS])),
        )

    def merge(self, other: Exposure) -> Exposure:
        """The exposure of both, for example of two chunks or of two devices."""
        return Exposure(counts=self.counts + other.counts, sums=self.sums + other.sums)

    def summary(self, items: Items) -> dict[str, Array]:
        """The metrics as scalars; :data:`recjax.eval.metrics` defines each.

        A mean over nothing is NaN: satisfaction without clicks, coverage of new items where none is.
        """
        shown, popularity = self.counts, items.popularity
        sums = dict(zip(SUMS, self.sums.value, strict=True))
        return {
            "reward": sums["reward"] / sums["slates"],
            "ctr": sums["clicks"] / sums["slots"],
            "click_rate": sums["clicked_slates"] / sums["slates"],
            "conversion_rate": sums["conversions"] / sums["clicks"],
            "satisfaction": sums["satisfaction"] / sums["clicks"],
            "satisfaction_per_slate": sums["satisfaction"] / sums["slates"],
            "coverage": catalogue.coverage(shown),
            "tail_coverage": catalogue.tail_coverage(shown, popularity),
            "new_coverage": catalogue.new_coverage(shown, items.is_new),
            "novelty_information": catalogue.novelty_information(shown, popularity),
            "novelty_new": catalogue.novelty_new(shown, items.is_new),
            "diversity": sums["diversity"] / sums["diverse_slates"],
            "gini": catalogue.gini(shown),
            "popularity_lift": catalogue.exposure_popularity_lift(shown, popularity),
        }


def _count(mask: Array) -> Array:
    return jnp.sum(mask, dtype=jnp.float32)
