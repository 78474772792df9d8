"""The few pytrees and constants that every room shares.

Ids. Items are ``0 .. num_items - 1``, so scores, slates, metrics and catalogue
arrays are indexed by item id with no offset. Tables that are looked up by history
have two more rows: row ``num_items`` stands for items that the id map has not seen
(out of vocabulary) and the last row for padding. The padding id is ``-1``, which
under NumPy indexing reads that last row, whatever the size of the catalogue.

Shapes. ``B`` is a batch of users, ``K`` the slots of a slate, ``L`` the length of a
history, ``N`` the number of items. A leading ``...`` means that the same type is
used for one user (inside an environment), for a batch, and for a stored log.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

Array = jax.Array
PyTree = Any

PAD_ID = -1
"""Marks an empty position of a history, a slate or an exclusion list."""


class Behaviour(enum.IntEnum):
    """What a user did to an item. The codes are stored in logs and histories."""

    VIEW = 0
    CLICK = 1
    CART = 2
    PURCHASE = 3
    RATING = 4
    LIKE = 5
    PLAY = 6


def shared(**kwargs: Any) -> Any:
    """Declares a dataclass field that all seeds of a run have in common.

    When the loop runs many seeds with ``jax.vmap``, a field declared so keeps no seed
    axis: step counters and write cursors stay scalars, so ``lax.cond`` stays a branch
    and ``dynamic_update_slice`` stays a contiguous write; big constant tables are held
    once.

    >>> @struct.dataclass
    ... class Counter:
    ...     value: jax.Array
    ...     step: jax.Array = shared()
    >>> seed_axes(Counter(value=jnp.zeros(3), step=jnp.zeros(())))
    Counter(value=0, step=None)
    """
    return struct.field(metadata={"shared": True}, **kwargs)


def seed_axes(tree: PyTree) -> PyTree:
    """The ``in_axes``/``out_axes`` of ``jax.vmap`` over seeds for ``tree``.

    Every leaf gets axis 0, except those below a field declared with :func:`shared`,
    which get None.
    """
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        axes = {}
        for field in dataclasses.fields(tree):
            value = getattr(tree, field.name)
            if not field.metadata.get("pytree_node", True):
                axes[field.name] = value
            elif field.metadata.get("shared", False):
                axes[field.name] = jax.tree.map(lambda _: None, value)
            else:
                axes[field.name] = seed_axes(value)
        return dataclasses.replace(tree, **axes)
    children, treedef = jax.tree.flatten(tree, is_leaf=lambda x: x is not tree)
    if children and jax.tree_util.treedef_is_leaf(treedef):
        return 0
    return jax.tree.unflatten(treedef, [seed_axes(child) for child in children])


@struct.dataclass
class Feature:
    """One thing that a platform knows of every item: an array of a declared kind.

    The kind says how models read the values. It is a name in ``recjax.nn.feature_encoders``, and any package
    may register another there:

    * ``"multi_hot"``: ``f32[N, G]`` of zeros and ones (genres, categories).
    * ``"numeric"``: ``f32[N, F]``, standardised numbers (year, price).
    * ``"words"``: ``i32[N, W]`` ids in ``0 .. size - 1`` of the words of a text, padded with ``PAD_ID``.
    * ``"vectors"``: ``f32[N, V]`` of a pretrained model, such as :func:`recjax.language.encode` of a description.
    * ``"tokens"``, ``"token_states"``: of a language model that is trained along
      (:func:`recjax.language.with_tokens`).

    Attributes:
      values: an array, or a pytree of arrays, with one row an item.
      kind: see above.
      size: how many ids there are, for kinds that look vectors up by id ("words"); else None.
    """

    values: PyTree
    kind: str = struct.field(pytree_node=False)
    size: int | None = struct.field(pytree_node=False, default=None)


@struct.dataclass
class Items:
    """What a platform knows of every item, one row per item.

    Attributes:
      popularity: ``f32[N]``, how often each item occurs in the training log.
      is_new: ``bool[N]``, items that count as new to the catalogue.
      features: what else is known, by name, such as ``{"genres": Feature(genres, "multi_hot")}``.
    """

    popularity: Array
    is_new: Array
    features: dict[str, Feature] = struct.field(default_factory=dict)

    @property
    def num_items(self) -> int:
        """``N``."""
        return self.popularity.shape[-1]

    @property
    def content(self) -> Array | None:
        """``f32[N, G]``: the values of the first "multi_hot" feature in the order of names, None without one.

        Metrics of content, such as the diversity of slates, are measured with it.
        """
        name = self.first("multi_hot")
        return None if name is None else self.features[name].values

    def first(self, kind: str) -> str | None:
        """The name of the first feature of a kind in the order of names, None without one."""
        return min((name for name, feature in self.features.items() if feature.kind == kind), default=None)

    def with_features(self, **features: Feature) -> Items:
        """The same items with further features, each in the place of one of the same name."""
        return dataclasses.replace(self, features={**self.features, **features})

    def without_features(self) -> Items:
        """The same items known by their ids alone, for models that are to read nothing else."""
        return dataclasses.replace(self, features={})


@struct.dataclass
class Observation:
    """What a policy may see of a user: what a platform would have logged.

    Attributes:
      history: ``i32[..., L]`` items the user responded to, oldest first, padded on the
        left with ``PAD_ID``.
      behaviour: ``i32[..., L]`` the strongest :class:`Behaviour` of each of them,
        ``PAD_ID`` where the history is padded.
      context: ``f32[..., C]`` what else the platform knows of the user (age, device),
        or None.
      time: ``i32[..., L]`` when each of them was, in seconds from any start, 0 where the
        history is padded; or None.
    """

    history: Array
    behaviour: Array
    context: Array | None = None
    time: Array | None = None


@struct.dataclass
class Response:
    """A user's answer to a slate, one value a slot; None where an environment has no such answer.

    Attributes:
      click: ``f32[..., K]``, 1 where the slot was clicked.
      conversion: ``f32[..., K]``, 1 where a click became a purchase.
      satisfaction: ``f32[..., K]`` in [0, 1] for slots that were consumed, else 0.
      watch_time: ``f32[..., K]`` seconds, 0 for slots that were not consumed.
    """

    click: Array
    conversion: Array | None = None
    satisfaction: Array | None = None
    watch_time: Array | None = None


@struct.dataclass
class Step:
    """One step of interaction, as replay stores it: act, respond, what came next.

    Attributes:
      observation: what the policy saw.
      slate: ``i32[..., K]`` the items that were shown.
      propensity: ``f32[..., K]`` the probability with which the policy showed each.
      response: the user's answer, kept so that a log can be rewarded anew.
      reward: ``f32[..., K]`` reward of each slot.
      terminated: ``bool[...]`` the user left; the future is worth nothing.
      truncated: ``bool[...]`` the episode was cut; the future goes on unseen.
      next_observation: what the policy would have seen next, before any reset.
    """

    observation: Observation
    slate: Array
    propensity: Array
    response: Response
    reward: Array
    terminated: Array
    truncated: Array
    next_observation: Observation


@struct.dataclass
class Sample:
    """Windows of consecutive steps of single users, drawn from replay.

    Attributes:
      steps: a :class:`Step` whose leaves have shape ``[B, n, ...]``, oldest first. A
        window may run over the end of an episode; ``terminated`` and ``truncated`` say
        where.
      valid: ``bool[B]``, False where replay did not yet hold a whole window; such
        rows must not be learned from.
    """

    steps: Step
    valid: Array


@dataclasses.dataclass(frozen=True)
class Spec:
    """The static shape of a recommendation problem; environments state it, agents read it.

    Attributes:
      num_items: items in the catalogue (``N``).
      slate_size: slots shown at once (``K``).
      history_length: positions in a history (``L``).
      context_size: width of ``Observation.context``, 0 when there is none.
    """

    num_items: int
    slate_size: int
    history_length: int
    context_size: int = 0

    def __post_init__(self) -> None:
        for name, floor in (("num_items", 1), ("slate_size", 1), ("history_length", 1), ("context_size", 0)):
            value = getattr(self, name)
            if value < floor:
                raise ValueError(f"Spec.{name} is {value}; it must be an integer >= {floor}.")
        if self.slate_size > self.num_items:
            raise ValueError(
                f"Spec.slate_size is {self.slate_size} but the catalogue has {self.num_items} items;"
                " show at most that many."
            )

    def empty_observation(self, batch_shape: tuple[int, ...] = ()) -> Observation:
        """An observation of users without history, for shapes and initialisation."""
        pad = jnp.full((*batch_shape, self.history_length), PAD_ID, jnp.int32)
        context = jnp.zeros((*batch_shape, self.context_size), jnp.float32) if self.context_size else None
        return Observation(history=pad, behaviour=pad, context=context)
