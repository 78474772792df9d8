"""Experience in small dtypes: the same batches in half the memory, and nothing that wraps around unseen."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax import replay
from recjax.response import CLICK, CONVERSION, SATISFACTION, Response
from recjax.types import PAD_ID, Candidates, Observation, Spec, Step

SIGNALS = (CLICK, CONVERSION, SATISFACTION)


def random_step(seed: int, spec: Spec, users: int = 4) -> Step:
    """Any values that the Spec allows, the smallest and the largest ids among them."""
    rng = np.random.default_rng(seed)

    def ids(*shape: int, largest: int) -> jax.Array:
        drawn = rng.integers(PAD_ID, largest + 1, (users, *shape))
        drawn.flat[:2] = PAD_ID, largest
        return jnp.asarray(drawn, jnp.int32)

    def observation() -> Observation:
        candidates = None
        if spec.num_candidates:
            features = jnp.asarray(rng.normal(size=(users, spec.num_candidates, 2)), jnp.float32)
            candidates = Candidates(ids(spec.num_candidates, largest=spec.num_items), features)
        history, behaviour = (ids(spec.history_length, largest=largest) for largest in (spec.num_items, 7))
        return Observation(history, behaviour, time=history * 40_000, candidates=candidates)

    number = lambda *shape: jnp.asarray(rng.normal(size=(users, *shape)), jnp.float32)  # noqa: E731
    flag = lambda *shape: jnp.asarray(rng.integers(2, size=(users, *shape)), jnp.float32)  # noqa: E731
    slots = (spec.slate_size,)
    slate = ids(*slots, largest=(spec.num_candidates or spec.num_items) - 1)
    response = Response(click=flag(*slots), conversion=flag(*slots), satisfaction=number(*slots))
    return Step(
        observation(), number(spec.action_size) if spec.action_size else slate, number(), {"value": number(2)},
        response, number(*slots), flag() > 0, flag() > 0, observation(),
    )  # fmt: skip


def filled(buffer: replay.Buffer, spec: Spec, adds: int = 9) -> object:
    state = buffer.init(random_step(0, spec))
    for time in range(adds):
        state = buffer.add(state, random_step(time, spec))
    return state


def assert_identical(a: object, b: object) -> None:
    """The same structure, dtypes and values."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize(
    "memory", [replay.uniform(window=1), replay.uniform(window=3, truncated_share=1.0), replay.rollout(length=4)]
)
@pytest.mark.parametrize(
    "kind", [{}, {"num_candidates": 200, "slate_size": 3}, {"action_size": 3}], ids=["items", "candidates", "vector"]
)
def test_batches_are_the_same(memory, kind, key):
    spec = Spec(**{"num_items": 1000, "slate_size": 2, "history_length": 5, "signals": SIGNALS} | kind)
    plain = memory.make(capacity=24)
    small = replay.stored(plain, replay.step_storage(spec))
    batches = [buffer.sample(key, filled(buffer, spec), 64) for buffer in (plain, small)]
    assert_identical(*batches)


@pytest.mark.parametrize("num_items", [127, 128, 32_767, 32_768])
def test_ids_take_the_smallest_dtype_and_none_wraps_around(num_items):
    spec = Spec(num_items, slate_size=2, history_length=5, signals=SIGNALS)
    storage = replay.step_storage(spec)
    step = random_step(3, spec)
    packed = storage.pack(step)
    wanted = {127: "int8", 128: "int16", 32_767: "int16", 32_768: "int32"}[num_items]
    assert {packed.observation.history.dtype.name, packed.slate.dtype.name} == {wanted}
    assert_identical(storage.unpack(packed), step)
    assert not any(replay.misfits(storage, step).values())


@pytest.mark.parametrize("value", [128, 32_768, 1 << 20, -129, -(1 << 31)])
@pytest.mark.parametrize("num_items", [127, 32_767])
def test_what_does_not_come_back_is_counted(num_items, value):
    spec = Spec(num_items, slate_size=2, history_length=5, signals=SIGNALS)
    storage, step = replay.step_storage(spec), random_step(5, spec)
    outside = {
        "observation.history": dataclasses.replace(
            step, observation=step.observation.replace(history=step.observation.history.at[1, 2:4].set(value))
        ),
        "observation.behaviour": dataclasses.replace(
            step, observation=step.observation.replace(behaviour=step.observation.behaviour.at[0, :2].set(value))
        ),
        "slate": dataclasses.replace(step, slate=step.slate.at[1].set(value)),
        "response.click": dataclasses.replace(
            step, response=Response(**dict(step.response) | {"click": step.response["click"].at[2].set(value)})
        ),
    }
    for part, wrong in outside.items():
        back, found = storage.unpack(storage.pack(wrong)), replay.misfits(storage, wrong)
        fits = part in ("observation.history", "slate") and num_items == 32_767 and -(1 << 15) <= value < 1 << 15
        changed = sum(int(jnp.sum(x != y)) for x, y in zip(jax.tree.leaves(back), jax.tree.leaves(wrong), strict=True))
        assert changed == (0 if fits else 2)
        assert {name: int(count) for name, count in found.items() if count} == ({} if fits else {part: 2})


@pytest.mark.parametrize("wrong", [0.5, 2.0, np.nan, np.inf])
def test_flags_are_0_or_1(wrong):
    spec = Spec(10, slate_size=2, history_length=3, signals=SIGNALS)
    step = random_step(0, spec)
    step = dataclasses.replace(step, response=Response(**dict(step.response) | {"click": jnp.full((4, 2), wrong)}))
    found = replay.misfits(replay.step_storage(spec), step)
    assert int(found["response.click"]) == 8
    assert "response.satisfaction" not in found


@pytest.mark.parametrize("length", [20, 50])
def test_a_loop_of_1_000_items_takes_half_the_memory(length):
    spec = Spec(1000, slate_size=5, history_length=length, signals=SIGNALS)
    step = jax.eval_shape(lambda: random_step(0, dataclasses.replace(spec, has_time=False), users=64))
    without_time = lambda seen: dataclasses.replace(seen, time=None)  # noqa: E731
    step = dataclasses.replace(
        step,
        observation=without_time(step.observation),
        next_observation=without_time(step.next_observation),
        extras={"propensity": jax.ShapeDtypeStruct((64, 5), jnp.float32)},
    )
    plain = replay.uniform().make(capacity=1 << 14)
    small = replay.stored(plain, replay.step_storage(spec))
    of_plain, of_small = (
        sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(jax.eval_shape(buffer.init, step)))
        for buffer in (plain, small)
    )
    assert of_small < of_plain * (0.45 if length == 50 else 0.52)
