"""The few pytrees and constants that every package shares.

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
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from recjax.response import CLICK, Response, Signal

Array = jax.Array
PyTree = Any

PAD_ID = -1
"""Marks an empty position of a history, a slate or an exclusion list."""


def check_ids(name: str, ids: Any) -> Any:
    """Ids as 32-bit integers, where no value is rounded or wraps around on the way.

    Args:
      name: what the ids are called in an error.
      ids: an array of integers of any shape, or nested lists of them.

    Returns:
      JAX arrays and tracers as they are; anything else as a NumPy array ``i32[...]``.

    Raises:
      ValueError: the ids are no integers, or do not fit into 32 bits.

    >>> check_ids("items", [[3, -1]]).tolist()
    [[3, -1]]
    >>> check_ids("items", [0.5])
    Traceback (most recent call last):
    ...
    ValueError: items must hold integer ids (padding is -1), but has dtype float64, such as 0.5.
    """
    array = ids if isinstance(ids, jax.Array) else np.asarray(ids)
    if not jnp.issubdtype(array.dtype, jnp.integer) and not (isinstance(array, np.ndarray) and array.size == 0):
        known = array.size and not isinstance(array, jax.core.Tracer)
        shown = f", such as {np.ravel(np.asarray(array))[0]}" if known else ""
        raise ValueError(f"{name} must hold integer ids (padding is {PAD_ID}), but has dtype {array.dtype}{shown}.")
    if isinstance(array, jax.Array):
        return array
    limits = np.iinfo(np.int32)
    outside = (array < limits.min) | (array > limits.max)
    if outside.any():
        raise ValueError(f"{name} holds the id {array[outside][0]}; ids are 32-bit, at most {limits.max}.")
    return array.astype(np.int32, copy=False)


class Behaviour(enum.IntEnum):
    """What a user did to an item. The codes are stored in logs and histories."""

    VIEW = 0
    CLICK = 1
    CART = 2
    PURCHASE = 3
    RATING = 4
    LIKE = 5
    PLAY = 6
    IMPRESSION = 7
    """Shown and not clicked; only in histories of environments whose :class:`Spec` says so."""


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
class Candidates:
    """Documents that exist for one step only, among which a slate is chosen.

    Attributes:
      ids: ``i32[..., M]`` items of the catalogue that they are, padded anywhere with ``PAD_ID``. Where documents come
        and go and a catalogue has only their kinds (topics), several may be of one kind.
      features: leaves ``[..., M, F]`` what is known of each of them at this step, or None; one array where
        ``Spec.candidate_size`` says how wide it is.
    """

    ids: Array
    features: PyTree = None

    @property
    def mask(self) -> Array:
        """``bool[..., M]``, True where there is a document."""
        return self.ids != PAD_ID


@struct.dataclass
class Observation:
    """What a policy may see of a user: what a platform would have logged.

    Attributes:
      history: ``i32[..., L]`` items the user responded to, oldest first, padded on the
        left with ``PAD_ID``. With ``Spec.has_impressions`` also items that were shown and not clicked.
      behaviour: ``i32[..., L]`` the strongest :class:`Behaviour` of each of them,
        ``PAD_ID`` where the history is padded.
      context: ``f32[..., C]`` what else the platform knows of the user (age, device),
        or None.
      time: ``i32[..., L]`` when each of them was, in seconds from any start, 0 where the
        history is padded; or None.
      candidates: the documents to choose from, or None where that is the whole catalogue.
    """

    history: Array
    behaviour: Array
    context: Array | None = None
    time: Array | None = None
    candidates: Candidates | None = None


class Revealed(NamedTuple):
    """Users with everything that a platform does not see, which oracles are given.

    Attributes:
      observation: what policies see, leaves ``[B, ...]``.
      state: hidden state of the users, leaves ``[B, ...]``.
      params: of the environment.
      world: what changes for all users, None where nothing does.
    """

    observation: Observation
    state: PyTree
    params: PyTree
    world: PyTree


@struct.dataclass
class Step:
    """One step of interaction: act, respond, what came next.

    Attributes:
      observation: what the policy saw.
      slate: ``i32[..., K]`` what was shown: items, or positions in ``observation.candidates``. For
        environments with continuous actions the action, ``f32[..., A]``.
      log_prob: ``f32[...]`` log-probability (density) with which the policy chose it.
      extras: what the policy wants to see again when it learns, a pytree of arrays ``[..., ...]``.
      response: the user's answer, from which a log can be rewarded anew.
      reward: ``f32[..., K]`` reward of each slot; ``f32[..., 1]`` of a continuous action.
      terminated: ``bool[...]`` the user left; the future is worth nothing.
      truncated: ``bool[...]`` the episode was cut; the future goes on unseen.
      next_observation: what the policy would have seen next, before any reset; without meaning where
        ``terminated``. None in a log of consecutive steps, where it is the observation of the next one.
    """

    observation: Observation
    slate: Array
    log_prob: Array
    extras: PyTree
    response: Response
    reward: Array
    terminated: Array
    truncated: Array
    next_observation: Observation | None = None


ActionSpace = Literal["catalogue", "candidates", "vector"]
"""What an action is: a slate of the catalogue, a slate of the candidates of a step, or a vector of numbers."""


@dataclasses.dataclass(frozen=True)
class Spec:
    """The static shape of a recommendation problem; environments state it, agents read it.

    Attributes:
      num_items: items in the catalogue (``N``).
      slate_size: slots shown at once (``K``).
      history_length: positions in a history (``L``).
      context_size: width of ``Observation.context``, 0 when there is none.
      num_candidates: width of ``Observation.candidates`` (``M``), 0 where slates are of the whole catalogue.
      candidate_size: numbers that are known of each candidate (``F``): their features are then ``f32[..., M, F]``; 0
        where they have none, or others.
      action_size: numbers of a continuous action (``A``), 0 where actions are slates.
      has_time: whether ``Observation.time`` is there.
      has_impressions: whether histories hold items that were shown and not clicked.
      signals: what users answer.
    """

    num_items: int
    slate_size: int
    history_length: int
    context_size: int = 0
    num_candidates: int = 0
    candidate_size: int = 0
    action_size: int = 0
    has_time: bool = False
    has_impressions: bool = False
    signals: tuple[Signal, ...] = (CLICK,)

    def __post_init__(self) -> None:
        floors = {"num_items": 1, "slate_size": 1, "history_length": 1}
        floors |= dict.fromkeys(("context_size", "num_candidates", "candidate_size", "action_size"), 0)
        for name, floor in floors.items():
            value = getattr(self, name)
            if value < floor:
                raise ValueError(f"Spec.{name} is {value}; it must be an integer >= {floor}.")
        if self.num_candidates and self.action_size:
            raise ValueError(
                f"Spec.num_candidates is {self.num_candidates} and Spec.action_size {self.action_size}; an action is a"
                " slate of candidates or a vector, so one of them must be 0."
            )
        if self.slate_size > (choices := self.num_candidates or self.num_items):
            what = "a step has {} candidates" if self.num_candidates else "the catalogue has {} items"
            raise ValueError(
                f"Spec.slate_size is {self.slate_size} but {what.format(choices)}; show at most that many."
            )
        names = [signal.name for signal in self.signals]
        if len(set(names)) < len(names):
            raise ValueError(f"Spec.signals has a name twice: {', '.join(names)}.")

    @property
    def action_space(self) -> ActionSpace:
        """What an action is."""
        if self.action_size:
            return "vector"
        return "candidates" if self.num_candidates else "catalogue"

    def empty_observation(self, batch_shape: tuple[int, ...] = ()) -> Observation:
        """An observation of users without history, for shapes and initialisation."""
        pad = jnp.full((*batch_shape, self.history_length), PAD_ID, jnp.int32)
        candidates = None
        if self.num_candidates:
            shape = (*batch_shape, self.num_candidates)
            features = jnp.zeros((*shape, self.candidate_size), jnp.float32) if self.candidate_size else None
            candidates = Candidates(jnp.full(shape, PAD_ID, jnp.int32), features)
        return Observation(
            history=pad,
            behaviour=pad,
            context=jnp.zeros((*batch_shape, self.context_size), jnp.float32) if self.context_size else None,
            time=jnp.zeros_like(pad) if self.has_time else None,
            candidates=candidates,
        )


def shown_items(slate: Array, observation: Observation) -> Array:
    """The items of a slate, ``i32[..., K]``, whether it holds items or positions in the candidates.

    >>> seen = Observation(jnp.array([3]), jnp.array([1]), candidates=Candidates(jnp.array([7, 5, 9])))
    >>> shown_items(jnp.array([2, 0]), seen).tolist()
    [9, 7]
    """
    if observation.candidates is None:
        return slate
    ids = observation.candidates.ids
    inside = (slate >= 0) & (slate < ids.shape[-1])
    return jnp.where(inside, jnp.take_along_axis(ids, jnp.where(inside, slate, 0), axis=-1), PAD_ID)
