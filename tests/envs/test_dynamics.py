"""The declared dynamics against their equations and the properties they promise."""

from __future__ import annotations

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recjax.envs import ResponseModel, describe
from recjax.envs.choice import dynamics
from recjax.envs.choice.response_model import as_arrays
from recjax.types import PAD_ID, Behaviour, Observation

FACTORS = dynamics.ItemFactors(
    vectors=jnp.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-1.0, 0.0]]),
    bias=jnp.array([0.5, 0.0, -0.5, 1.0]),
    topics=jnp.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-1.0, 0.0]]),
    bait=jnp.array([0.0, 2.0, -1.0, 0.5]),
)
ALWAYS_CLICK = ResponseModel(no_click_logit=-100.0)
STEP = jax.jit(dynamics.step)
MANY = jax.jit(jax.vmap(dynamics.step, in_axes=(0, None, None, None, None)))


def user(vector=(1.0, 0.5), bias=0.25, memory=(0.0, 0.0), satisfaction=0.5, steps=0) -> dynamics.User:
    history = jnp.array([PAD_ID, PAD_ID, 2], jnp.int32)
    behaviour = jnp.array([PAD_ID, PAD_ID, int(Behaviour.RATING)], jnp.int32)
    return dynamics.User(
        user=jnp.array(7),
        vector=jnp.array(vector),
        bias=jnp.array(bias),
        observation=Observation(history=history, behaviour=behaviour),
        memory=jnp.array(memory),
        satisfaction=jnp.array(satisfaction),
        steps=jnp.array(steps),
    )


def expected_choice(state, slate, response_model: ResponseModel) -> np.ndarray:
    """Choice probabilities in float64, written out slot by slot."""
    weights = []
    for slot, item in enumerate(slate):
        vector, topic = np.float64(FACTORS.vectors[item]), np.float64(FACTORS.topics[item])
        preference = vector @ np.float64(state.vector) + float(FACTORS.bias[item]) + float(state.bias)
        bored = max(0.0, float(np.float64(state.memory) @ topic))
        appeal = preference - response_model.boredom_weight * bored + response_model.bait * float(FACTORS.bait[item])
        weights.append(np.exp(response_model.choice_scale * appeal) * response_model.position_discount**slot)
    weights.append(np.exp(response_model.no_click_logit))
    return np.array(weights) / np.sum(weights)


def test_choice_frequencies_follow_the_closed_form():
    state, slate = user(memory=(0.4, 0.1)), [3, 0, 1]
    response_model = ResponseModel(choice_scale=1.3, no_click_logit=0.5, position_discount=0.7, bait=0.6)
    keys = jax.random.split(jax.random.key(1), 20_000)
    response = MANY(keys, state, jnp.array(slate), response_model, FACTORS)[2]
    clicks = np.asarray(response["click"])
    observed = np.append(clicks.mean(0), 1 - clicks.sum(1).mean())
    probability = expected_choice(state, slate, response_model)
    standard_error = np.sqrt(probability * (1 - probability) / len(keys))
    assert (np.abs(observed - probability) < 4.5 * standard_error).all(), (observed, probability)

    np.testing.assert_array_equal(clicks == 0, np.asarray(response["satisfaction"]) == 0)
    converted = np.asarray(response["conversion"]).sum(0) / clicks.sum(0)
    pleasure = np.asarray(response["satisfaction"]).max(0)
    chance = response_model.conversion_rate * pleasure
    assert (np.abs(converted - chance) < 4.5 * np.sqrt(chance * (1 - chance) / clicks.sum(0))).all()


def test_pick_inverts_the_distribution_function():
    logits = jnp.log(jnp.array([0.0, 0.2, 0.0, 0.5, 0.3, 0.0]))
    uniform = jnp.array([0.0, 0.19, 0.21, 0.69, 0.71, 0.9999999])
    picked = dynamics.pick(jnp.tile(logits, (6, 1)), uniform)
    assert picked[:5].tolist() == [1, 1, 3, 3, 4]
    assert int(picked[5]) == 4, "the last number before 1 falls to an index that can be picked"


def test_satisfaction_is_sigmoid_of_attraction_whatever_the_bait():
    bait = ALWAYS_CLICK.replace(bait=3.0)
    _, _, response, *_ = STEP(jax.random.key(0), user(memory=(0.5, 0.0)), jnp.array([1]), bait, FACTORS)
    # <(1, .5), (.8, .6)> + 0 + .25 - 4 * max(0, .5 * .8)
    assert float(response["satisfaction"][0]) == pytest.approx(1 / (1 + np.exp(-(1.1 + 0.25 - 1.6))), rel=1e-5)


def test_no_click_changes_only_satisfaction_memory_and_clock():
    before = user(memory=(0.5, 0.5))
    response_model = ResponseModel(no_click_logit=100.0)
    observation, after, response, *_ = STEP(jax.random.key(0), before, jnp.array([0, 1]), response_model, FACTORS)
    assert float(response["click"].sum()) == 0
    chex.assert_trees_all_equal(observation, before.observation)
    assert float(after.satisfaction) == pytest.approx(0.5 * (1 - response_model.no_click_decay))
    np.testing.assert_allclose(after.memory, response_model.memory_decay * before.memory, rtol=1e-6)
    assert int(after.steps) == 1


@pytest.mark.parametrize(("rate", "behaviour"), [(0.0, Behaviour.CLICK), (1.0, Behaviour.PURCHASE)])
def test_a_click_is_appended_to_the_history(rate, behaviour):
    response_model = ALWAYS_CLICK.replace(conversion_rate=rate)
    fond = user(bias=50.0)
    observation, after, response, *_ = STEP(jax.random.key(0), fond, jnp.array([3]), response_model, FACTORS)
    assert observation.history.tolist() == [PAD_ID, 2, 3]
    assert observation.behaviour.tolist() == [PAD_ID, int(Behaviour.RATING), int(behaviour)]
    assert float(response["conversion"][0]) == rate
    np.testing.assert_allclose(after.memory, (1 - response_model.memory_decay) * FACTORS.topics[3], rtol=1e-6)


def consume(state, items, response_model=ALWAYS_CLICK):
    """Satisfaction with each of ``items``, consumed one after the other."""
    pleasures = []
    for item in items:
        _, state, response, *_ = STEP(jax.random.key(0), state, jnp.array([item]), response_model, FACTORS)
        pleasures.append(float(response["satisfaction"][0]))
    return np.array(pleasures), state


@settings(max_examples=20, deadline=None)
@given(weight=st.floats(0.5, 8.0), decay=st.floats(0.2, 0.95), like=st.floats(-2.0, 2.0))
def test_satisfaction_falls_with_repetition_and_recovers_with_variety(weight, decay, like):
    response_model = ALWAYS_CLICK.replace(boredom_weight=weight, memory_decay=decay)
    start = user(vector=(like, like))
    repeated, bored = consume(start, [0] * 5, response_model)
    assert (np.diff(repeated) < 0).all(), "the same item pleases less each time"
    similar, _ = consume(bored, [1], response_model)
    fresh, _ = consume(start, [1], response_model)
    assert similar[0] < fresh[0], "so does one of a similar topic"
    _, rested = consume(bored, [2] * 3, response_model)
    again, _ = consume(bored, [0], response_model)
    recovered, _ = consume(rested, [0], response_model)
    assert again[0] < recovered[0] < repeated[0], "another topic for a while brings it back, in part"


def test_slow_satisfaction_falls_under_repetition_and_rises_under_variety():
    fond = user(vector=(0.5, 1.5), satisfaction=0.6)
    _, same = consume(fond, [0] * 12)
    _, varied = consume(fond, [0, 2, 3] * 4)
    assert float(same.satisfaction) < float(varied.satisfaction)
    _, again = consume(same, [2, 3] * 6)
    assert float(again.satisfaction) > float(same.satisfaction)


def test_slots_without_an_item_are_never_clicked():
    slate = jnp.array([PAD_ID, 0, 4, 99])
    keys = jax.random.split(jax.random.key(3), 200)
    response = MANY(keys, user(), slate, ALWAYS_CLICK, FACTORS)[2]
    np.testing.assert_array_equal(response["click"].sum(0), [0, 200, 0, 0])
    nothing = jnp.full(2, PAD_ID)
    _, after, response, *_ = STEP(jax.random.key(0), user(), nothing, ALWAYS_CLICK, FACTORS)
    assert float(response["click"].sum()) == 0
    chex.assert_tree_all_finite(after)


def test_leaving_follows_satisfaction():
    response_model = ResponseModel(leave_base=0.1, leave_slope=0.5, no_click_logit=100.0, no_click_decay=0.0)
    keys = jax.random.split(jax.random.key(4), 4000)
    for satisfaction in (0.0, 0.4, 1.0):
        state = user(satisfaction=satisfaction)
        left = MANY(keys, state, jnp.array([0]), response_model, FACTORS)[3]
        chance = 0.1 + 0.5 * (1 - satisfaction)
        assert abs(float(left.mean()) - chance) < 4.5 * np.sqrt(chance * (1 - chance) / len(keys))


def test_truncation_is_the_clock_and_gives_way_to_leaving():
    stays = ResponseModel(leave_base=0.0, leave_slope=0.0, max_steps=3)
    flags = []
    state = user()
    for _ in range(3):
        _, state, _, terminated, truncated, _ = STEP(jax.random.key(0), state, jnp.array([0]), stays, FACTORS)
        flags.append((bool(terminated), bool(truncated)))
    assert flags == [(False, False), (False, False), (False, True)]
    leaves = stays.replace(leave_base=1.0)
    *_, terminated, truncated, _ = STEP(jax.random.key(0), user(steps=2), jnp.array([0]), leaves, FACTORS)
    assert (bool(terminated), bool(truncated)) == (True, False)


def test_declared_values_can_be_swept_by_vmap():
    weights = jnp.array([0.0, 2.0, 4.0])
    bored = user(memory=(0.5, 0.0))

    def pleasure(weight):
        response_model = ALWAYS_CLICK.replace(boredom_weight=weight)
        return dynamics.step(jax.random.key(0), bored, jnp.array([0]), response_model, FACTORS)[2]["satisfaction"][0]

    assert (np.diff(jax.jit(jax.vmap(pleasure))(weights)) < 0).all()


def test_topics_are_unit_vectors_without_the_mean():
    vectors = jnp.array([[3.0, 1.0], [1.0, 1.0], [2.0, 1.0]])
    np.testing.assert_allclose(dynamics.topics(vectors), [[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]], atol=1e-6)


def test_every_declared_parameter_is_described():
    rows = describe(ResponseModel(leave_base=0.3))
    assert [row.name for row in rows] == [field.name for field in dataclasses.fields(ResponseModel)]
    assert all(len(row.doc) > 30 for row in rows)
    assert {row.name: row.value for row in rows}["leave_base"] == 0.3


@pytest.mark.parametrize(
    "bad", [{"memory_decay": 1.5}, {"leave_base": -0.1}, {"position_discount": 0.0}, {"boredom_weight": float("nan")}]
)
def test_values_out_of_range_are_refused(bad):
    name, value = next(iter(bad.items()))
    with pytest.raises(ValueError, match=f"ResponseModel.{name} is {value}"):
        as_arrays(ResponseModel(**bad))
