"""Small environments of every kind of action and observation, behind Gymnasium."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from flax import struct

from recjax import envs
from recjax.envs import Environment, Transition
from recjax.response import Signal
from recjax.types import PAD_ID, Candidates, Items, Response, Spec

pytest.importorskip("gymnasium")


@struct.dataclass
class Visitor:
    """``i32[]`` how many steps the user has done."""

    steps: jax.Array


def counting(kind: str = "catalogue", stay: int = 3) -> Environment:
    """Users who do as they are told, and what they were told can be read off their answers.

    The signal "shown" is what each slot shows (the numbers of a vector, summed). The world counts the steps of all
    users, and the context is what the user has done and the world. Users with an item 0 leave; the others are cut
    off after ``stay`` steps.
    """
    size = {"num_items": 6, "slate_size": 3, "history_length": 2, "context_size": 2, "has_time": True}
    size |= {"candidates": {"num_candidates": 4}, "vector": {"action_size": 3}}.get(kind, {})
    signals = Signal("shown", "What a slot shows"), Signal("total", "What all slots show", per="slate")
    spec = Spec(**size, signals=signals)

    def seen(steps, world):
        observation = spec.empty_observation()
        if kind == "candidates":
            ids = jnp.array([5, 4, 2, PAD_ID])
            observation = dataclasses.replace(observation, candidates=Candidates(ids, {"price": jnp.ones((4, 1))}))
        return dataclasses.replace(observation, context=jnp.stack([steps, world]).astype(jnp.float32))

    def reset(key, params, world):
        return seen(jnp.int32(0), world), Visitor(jnp.int32(0))

    def step(key, state, slate, params, world):
        after = Visitor(state.steps + 1)
        shown = jnp.sum(slate, keepdims=True) if kind == "vector" else slate.astype(jnp.float32)
        leaves = jnp.any(slate == 0)
        response = Response(shown=shown, total=jnp.sum(shown))
        cut = (after.steps >= stay) & ~leaves
        return Transition(seen(after.steps, world), after, response, leaves, cut, {})

    return Environment(
        spec=spec,
        params=(),
        items=Items(popularity=jnp.ones(6), is_new=jnp.zeros(6, bool)),
        reset=reset,
        step=step,
        init_world=lambda key, params: jnp.int32(0),
        tick=lambda key, world, step, params: world + 1,
    )


@pytest.fixture(scope="session")
def made() -> dict[str, Environment]:
    """A small environment of every kind of action."""
    kinds = {kind: counting(kind) for kind in ("catalogue", "candidates", "vector")}
    return kinds | {"synthetic": envs.synthetic(num_items=30, slate_size=4, history_length=5)}
