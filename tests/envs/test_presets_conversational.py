"""Conversations: every rule of a turn in float64, who arrives, and what the oracles ask and show."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax import envs
from recjax.types import PAD_ID, Behaviour, Revealed

USERS, ITEMS, ATTRIBUTES, LENGTH = 400, 20, 5, 4
DIALOGUE = envs.Dialogue(
    care=0.6, sharpness=4.0, bar=0.3, critique_rate=0.7, answer_rate=0.8, item_patience=0.3, max_turns=6.0
)


@pytest.fixture(scope="module")
def env():
    return envs.conversational(num_items=ITEMS, attributes=ATTRIBUTES, history_length=LENGTH, dialogue=DIALOGUE)


@pytest.fixture(scope="module")
def arrived(env):
    keys = jax.random.split(jax.random.key(0), USERS)
    return jax.jit(jax.vmap(env.reset, in_axes=(0, None, None)))(keys, env.params, None)


def turn(wish, has, act, context, uniform):
    """What is said and done in one turn: click, question, critique, context, whether the user gives up."""
    context = context.copy()
    if act == PAD_ID:
        return 0.0, 0.0, 0.0, context, uniform[3] < DIALOGUE.item_patience
    if act >= ITEMS:
        if uniform[1] < DIALOGUE.answer_rate:
            context[act - ITEMS], context[ATTRIBUTES + act - ITEMS] = 1.0, wish[act - ITEMS]
        return 0.0, 1.0, 0.0, context, uniform[3] < DIALOGUE.question_patience
    agreement = wish * np.where(has[act] == 1, 1.0, -1.0)
    fit = agreement.sum() / max(1.0, np.abs(wish).sum())
    if uniform[0] < 1 / (1 + np.exp(-DIALOGUE.sharpness * (fit - DIALOGUE.bar))):
        return 1.0, 0.0, 0.0, context, True
    minded = np.flatnonzero(agreement < 0)
    critique = len(minded) > 0 and uniform[1] < DIALOGUE.critique_rate
    if critique:
        attribute = minded[int(uniform[2] * len(minded))]
        context[attribute], context[ATTRIBUTES + attribute] = 1.0, wish[attribute]
    return 0.0, 0.0, float(critique), context, uniform[3] < DIALOGUE.item_patience


def test_turns_follow_the_definition(env, arrived):
    rng = np.random.default_rng(0)
    context = np.zeros((USERS, 2 * ATTRIBUTES))
    context[:, 1], context[:, ATTRIBUTES + 1] = 1.0, np.asarray(arrived[1].wish[:, 1])
    observation = dataclasses.replace(arrived[0], context=jnp.asarray(context, jnp.float32))
    state = arrived[1].replace(observation=observation, turns=jnp.asarray(rng.integers(6, size=USERS), jnp.int32))
    act = rng.integers(-1, ITEMS + ATTRIBUTES, size=USERS)
    keys = jax.random.split(jax.random.key(1), USERS)
    step = jax.jit(jax.vmap(env.step, in_axes=(0, 0, 0, None, None)))
    after = jax.device_get(step(keys, state, jnp.asarray(act[:, None], jnp.int32), env.params, None))
    wish, turns = np.asarray(state.wish, float), np.asarray(state.turns)
    uniform = np.asarray(jax.vmap(lambda key: jax.random.uniform(key, (4,)))(keys), float)
    has, counts = np.asarray(env.items.content)[:ITEMS], np.zeros(4)
    for row in range(USERS):
        click, question, critique, said, gives_up = turn(wish[row], has, act[row], context[row], uniform[row])
        answers = [float(after.response[name][row, 0]) for name in ("click", "question", "critique")]
        assert answers == [click, question, critique], row
        np.testing.assert_array_equal(after.observation.context[row], said)
        assert bool(after.terminated[row]) == gives_up
        assert bool(after.truncated[row]) == (turns[row] + 1 >= 6 and not gives_up)
        assert after.observation.history[row].tolist() == [PAD_ID] * (LENGTH - 1) + [act[row]]
        code = PAD_ID if act[row] == PAD_ID else Behaviour.PURCHASE if click else Behaviour.VIEW
        assert after.observation.behaviour[row].tolist() == [PAD_ID] * (LENGTH - 1) + [code]
        counts += [click, question, critique, gives_up]
    assert (counts > 20).all(), "every kind of turn has been compared"
    assert (act == PAD_ID).any(), "also one in which nothing is shown or asked"


def test_wishes_have_the_declared_shares(env, arrived):
    wish = np.asarray(arrived[1].wish)
    for value, share in ((1.0, 0.3), (-1.0, 0.3), (0.0, 0.4)):
        assert abs((wish == value).mean() - share) < 4.5 * np.sqrt(share * (1 - share) / wish.size)
    assert (np.asarray(arrived[0].context) == 0).all()
    assert (np.asarray(env.items.features["question"].values)[:, 0] == (np.arange(ITEMS + ATTRIBUTES) >= ITEMS)).all()


def test_oracles_ask_first_and_show_what_agrees(env, arrived):
    rng = np.random.default_rng(1)
    wish = np.asarray(arrived[1].wish)
    spoken = rng.random(wish.shape) < 0.5
    context = np.concatenate([spoken, spoken * wish], axis=1)
    history = np.stack([rng.permutation(ITEMS)[:LENGTH] for _ in range(USERS)])
    history[:, 0], history[:, 1] = PAD_ID, ITEMS + 1
    observation = dataclasses.replace(
        arrived[0], context=jnp.asarray(context, jnp.float32), history=jnp.asarray(history, jnp.int32)
    )
    users = Revealed(observation, arrived[1].replace(observation=observation), env.params, None)
    sign = np.where(np.asarray(env.items.content)[:ITEMS] == 1, 1.0, -1.0)

    def best(wishes, row):
        agreement = sign @ wishes
        agreement[[item for item in history[row] if 0 <= item < ITEMS]] = -np.inf
        return int(np.argmax(agreement))

    shown = {
        name: np.asarray(jax.jit(env.oracles[name].choose)(jax.random.key(0), users, setting))[:, 0]
        for name, setting in (("myopic", None), ("look_ahead", jnp.float32(3)), ("revealed", None))
    }
    assert env.oracles["look_ahead"].settings.tolist() == list(range(ATTRIBUTES + 1))
    for row in range(USERS):
        item = best(spoken[row] * wish[row], row)
        assert shown["myopic"][row] == item
        assert shown["revealed"][row] == best(wish[row], row)
        asks = spoken[row].sum() < 3
        assert shown["look_ahead"][row] == (ITEMS + int(np.argmin(spoken[row])) if asks else item)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"attributes": 0}, "attributes=0"),
        ({"num_items": 0}, "num_items=0"),
        ({"dialogue": envs.Dialogue(care=1.5)}, r"Dialogue.care is 1.5; it must lie in \[0, 1\]"),
    ],
)
def test_bad_input(bad, message):
    with pytest.raises(ValueError, match=message):
        envs.conversational(**bad)
