"""How a buffer stores experience: in dtypes of its own, from which the experience comes back as it was.

>>> import jax, jax.numpy as jnp
>>> from recjax.replay import uniform
>>> small = Storage(lambda x: x.astype(jnp.int8), lambda x: x.astype(jnp.int32))
>>> buffer = stored(uniform().make(capacity=8), small)
>>> state = buffer.init(jnp.arange(2))
>>> state = buffer.add(state, jnp.array([5, 5]))
>>> state.data.dtype.name, buffer.sample(jax.random.key(0), state, 3).experience.tolist()
('int8', [[5], [5], [5]])
>>> int(misfits(small, jnp.array([100, 300]))[""])
1
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from recjax.replay.base import Batch, Buffer
from recjax.types import Array, Observation, PyTree, Spec, Step


class Storage(NamedTuple):
    """A pair of functions of which the second undoes the first.

    Attributes:
      pack: experience to what is stored of it, a pytree of the same structure.
      unpack: what was stored to the experience.
    """

    pack: Callable[[Any], Any]
    unpack: Callable[[Any], Any]


def stored(buffer: Buffer, storage: Storage) -> Buffer:
    """A buffer that stores packed experience and draws the same batches."""

    def sample(key: Array, state: PyTree, batch_size: int) -> Batch:
        batch = buffer.sample(key, state, batch_size)
        return batch._replace(experience=storage.unpack(batch.experience))

    return Buffer(
        init=lambda experience: buffer.init(storage.pack(experience)),
        add=lambda state, experience: buffer.add(state, storage.pack(experience)),
        sample=sample,
        update=buffer.update,
    )


def misfits(storage: Storage, experience: PyTree) -> dict[str, Array]:
    """How many values do not come back from storage as they were.

    Returns:
      ``i32[]`` for each leaf that is stored in another dtype, by its path, such as ``"observation.history"``.
    """
    packed = storage.pack(experience)
    pairs = zip(
        jax.tree_util.tree_leaves_with_path(experience),
        jax.tree.leaves(packed),
        jax.tree.leaves(storage.unpack(packed)),
        strict=True,
    )
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): jnp.sum(given != back, dtype=jnp.int32)
        for (path, given), held, back in pairs
        if held.dtype != given.dtype
    }


def step_storage(spec: Spec) -> Storage:
    """Steps in the smallest dtypes that hold what ``spec`` says there may be.

    Ids of items go from ``PAD_ID`` to ``num_items`` (the row of unknown items), positions from ``PAD_ID`` to
    ``num_candidates``; codes of behaviour take a byte, and so do signals that are flags. Rewards, other signals,
    probabilities, times and vectors stay what they are.
    """
    ids = smallest_integer(spec.num_items)
    slots = {"catalogue": ids, "candidates": smallest_integer(spec.num_candidates), "vector": None}[spec.action_space]
    wide = None if spec.action_size else jnp.int32
    flags = frozenset(signal.name for signal in spec.signals if signal.is_flag)
    return Storage(
        pack=lambda step: _cast(step, flags, _Dtypes(ids, slots, jnp.int8, jnp.bool_)),
        unpack=lambda step: _cast(step, flags, _Dtypes(jnp.int32, wide, jnp.int32, jnp.float32)),
    )


def smallest_integer(largest: int) -> Any:
    """The smallest signed dtype that holds ``-1 .. largest``.

    >>> [smallest_integer(n).__name__ for n in (127, 128, 32_767, 32_768)]
    ['int8', 'int16', 'int16', 'int32']
    """
    return next(dtype for dtype in (jnp.int8, jnp.int16, jnp.int32) if largest <= jnp.iinfo(dtype).max)


class _Dtypes(NamedTuple):
    """Of ids of items, of slates (None where they are vectors), of codes of behaviour, and of flags."""

    ids: Any
    slots: Any
    codes: Any
    flags: Any


def _cast(step: Step, flags: frozenset[str], dtypes: _Dtypes) -> Step:
    """A step whose integers and flags have these dtypes; the rest stays what it is."""

    def of_observation(seen: Observation) -> Observation:
        candidates = seen.candidates
        if candidates is not None:
            candidates = dataclasses.replace(candidates, ids=candidates.ids.astype(dtypes.ids))
        history, behaviour = seen.history.astype(dtypes.ids), seen.behaviour.astype(dtypes.codes)
        return dataclasses.replace(seen, history=history, behaviour=behaviour, candidates=candidates)

    cast = {name: value.astype(dtypes.flags) for name, value in step.response.items() if name in flags}
    return dataclasses.replace(
        step,
        observation=of_observation(step.observation),
        slate=step.slate if dtypes.slots is None else step.slate.astype(dtypes.slots),
        response=type(step.response)(**(dict(step.response) | cast)),
        next_observation=None if step.next_observation is None else of_observation(step.next_observation),
    )
