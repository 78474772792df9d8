"""What must not happen in a loop, counted on the device and told on the host."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from recjax.fit import Diverged
from recjax.replay import Storage, misfits
from recjax.types import PAD_ID, Array, Spec, Step


@struct.dataclass
class Faults:
    """Counts since the beginning of a run.

    Attributes:
      slates: ``i32[]`` slates with an item outside the catalogue (or a position that holds no candidate), or
        with an item twice.
      rewards: ``i32[]`` slots whose reward is infinite or NaN.
      metrics: for each metric of ``learn``, ``i32[]`` updates for which it was infinite or NaN.
      stored: for each part of a step that replay stores in a smaller dtype, ``i32[]`` values that it does not hold.
    """

    slates: Array
    rewards: Array
    metrics: dict[str, Array]
    stored: dict[str, Array]

    @classmethod
    def none(cls, metrics: Iterable[str] = (), stored: Iterable[str] = ()) -> Faults:
        """Nothing has happened yet."""
        zero = jnp.zeros((), jnp.int32)
        of = lambda names: dict.fromkeys(names, zero)  # noqa: E731
        return cls(slates=zero, rewards=zero, metrics=of(metrics), stored=of(stored))

    def of_step(self, step: Step, spec: Spec) -> Faults:
        """The counts after one more step."""
        wrong = jnp.zeros((), jnp.int32) if spec.action_size else jnp.sum(~is_slate(step, spec), dtype=jnp.int32)
        infinite = jnp.sum(~jnp.isfinite(step.reward), dtype=jnp.int32)
        return self.replace(slates=self.slates + wrong, rewards=self.rewards + infinite)  # type: ignore[attr-defined]

    def of_storage(self, step: Step, storage: Storage) -> Faults:
        """The counts after one more step was stored."""

        def has_meaning(after: Array, before: Array) -> Array:
            left = step.terminated.reshape(step.terminated.shape + (1,) * (after.ndim - 1))
            return jnp.where(left, before, after)

        seen = jax.tree.map(has_meaning, step.next_observation, step.observation)
        found = misfits(storage, dataclasses.replace(step, next_observation=seen))
        return self.replace(stored=jax.tree.map(jnp.add, self.stored, found))  # type: ignore[attr-defined]

    def of_updates(self, metrics: dict[str, Array]) -> Faults:
        """The counts after updates that reported ``metrics``, each ``[updates]``."""
        infinite = {name: jnp.sum(~jnp.isfinite(values), dtype=jnp.int32) for name, values in metrics.items()}
        return self.replace(metrics=jax.tree.map(jnp.add, self.metrics, infinite))  # type: ignore[attr-defined]


def is_slate(step: Step, spec: Spec) -> Array:
    """Which slates hold distinct items of the catalogue, or distinct candidates, beside empty slots; ``bool[B]``."""
    slate, candidates = step.slate, step.observation.candidates
    empty = slate == PAD_ID
    if candidates is None:
        known = (slate >= 0) & (slate < spec.num_items)
    else:
        inside = (slate >= 0) & (slate < spec.num_candidates)
        known = inside & jnp.take_along_axis(candidates.mask, jnp.where(inside, slate, 0), axis=-1)
    same = (slate[:, :, None] == slate[:, None, :]) & ~empty[:, :, None]
    repeats = jnp.sum(same, axis=(-1, -2)) > jnp.sum(~empty, axis=-1)
    return jnp.all(known | empty, axis=-1) & ~repeats


def raise_faults(faults: Faults, name: str, first: int, last: int) -> None:
    """Stops a run in which something happened that must not.

    Args:
      faults: counts ``i32[seeds]``.
      name: of the run.
      first: the step before which nothing had happened.
      last: the step until which it did.

    Raises:
      ValueError: the agent showed what is no slate, or a user sent or saw what the Spec says there is not.
      Diverged: a reward, or a metric of learning, became infinite or NaN.
    """
    where = f"{name}, steps {first} to {last}, seeds {{}}"
    slates, rewards = np.asarray(faults.slates), np.asarray(faults.rewards)
    if slates.any():
        raise ValueError(
            f"The agent showed {slates.sum()} slates that hold an item outside the catalogue (or a position"
            f" without a candidate) or an item twice ({where.format(_seeds(slates))}). act must return distinct"
            f" ids in 0 .. num_items - 1, PAD_ID ({PAD_ID}) for an empty slot."
        )
    if rewards.any():
        raise Diverged(
            f"The reward of {rewards.sum()} slots was infinite or NaN ({where.format(_seeds(rewards))})."
            " Check the reward function and the signals that it reads."
        )
    for part, counted in faults.stored.items():
        counts = np.asarray(counted)
        if counts.any():
            raise ValueError(
                f"{counts.sum()} values of {part} are not what Environment.spec says there may be"
                f" ({where.format(_seeds(counts))}), and replay has no room for them. Ids of items are"
                f" {PAD_ID} .. num_items, codes of behaviour are those of types.Behaviour, and a signal that"
                " is_flag is 0 or 1."
            )
    for metric, counted in faults.metrics.items():
        counts = np.asarray(counted)
        if counts.any():
            raise Diverged(
                f"The {metric} of {counts.sum()} updates was infinite or NaN ({where.format(_seeds(counts))})."
                " Lower the learning rate, clip gradients, or check the reward."
            )


def _seeds(counts: np.ndarray) -> str:
    return ", ".join(str(seed) for seed in np.flatnonzero(np.atleast_1d(counts)))
