"""Every rule of a step of the domains, against the definitions written in float64 for one user at a time."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax import envs
from recjax.envs import ResponseModel
from recjax.types import PAD_ID, Behaviour

USERS, ITEMS, SLOTS, LENGTH = 200, 24, 3, 6
MODEL = ResponseModel(
    choice_scale=1.2,
    no_click_logit=0.5,
    position_discount=0.8,
    bait=0.7,
    boredom_weight=2.0,
    memory_decay=0.7,
    satisfaction_rate=0.3,
    no_click_decay=0.1,
    leave_base=0.05,
    leave_slope=0.4,
    max_steps=8.0,
)
MADE = {
    "video": lambda: envs.video(
        num_items=ITEMS,
        slate_size=SLOTS,
        history_length=LENGTH,
        response_model=MODEL,
        videos=envs.Videos(length_weight=1.7),
    ),
    "ecommerce": lambda: envs.ecommerce(
        num_items=ITEMS,
        slate_size=SLOTS,
        history_length=LENGTH,
        response_model=MODEL,
        shop=envs.Shop(cart_rate=0.9, checkout_rate=0.7, need_met=0.45),
    ),
    "music": lambda: envs.music(num_items=ITEMS, tracks_per_artist=5, history_length=LENGTH, response_model=MODEL),
    "news": lambda: envs.news(
        num_items=ITEMS,
        num_candidates=8,
        per_step=2,
        slate_size=SLOTS,
        history_length=LENGTH,
        response_model=MODEL,
        newsroom=envs.Newsroom(breaking_share=0.4),
    ),
    "session": lambda: envs.session(num_items=ITEMS, slate_size=SLOTS, history_length=LENGTH, response_model=MODEL),
}
DRAWS = {"video": 3, "ecommerce": 4, "music": 3, "news": 2, "session": 3}
"""Uniform numbers of a step, in the order in which the definitions name what they decide."""


# The parts that the domains share, in float64.


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, float)))


def attraction(params, user, items):
    factors = params.factors
    bored = np.maximum(factors.topics[items] @ user.memory, 0.0)
    return factors.vectors[items] @ user.vector + factors.bias[items] + user.bias - MODEL.boredom_weight * bored


def choose(appeal, shown, uniform):
    """The slot that is clicked, or None."""
    weights = [
        np.exp(MODEL.choice_scale * one) * MODEL.position_discount**slot if there else 0.0
        for slot, (one, there) in enumerate(zip(appeal, shown, strict=True))
    ]
    share = np.cumsum([*weights, np.exp(MODEL.no_click_logit)])
    slot = int(np.sum(share <= uniform * share[-1]))
    return slot if slot < len(appeal) else None


def settled(user, topic, pleasure):
    """Memory and slow satisfaction after an item, or after none where ``topic`` is None."""
    memory = MODEL.memory_decay * user.memory
    if topic is None:
        return memory, user.satisfaction * (1 - MODEL.no_click_decay)
    return (
        memory + (1 - MODEL.memory_decay) * topic,
        user.satisfaction + MODEL.satisfaction_rate * (pleasure - user.satisfaction),
    )


def leaves(satisfaction, uniform):
    return uniform < min(1.0, MODEL.leave_base + MODEL.leave_slope * (1 - satisfaction))


def push(observation, events):
    """History and behaviour after events ``(item, behaviour)``."""
    history, behaviour = list(observation.history), list(observation.behaviour)
    for item, code in events:
        history, behaviour = [*history[1:], item], [*behaviour[1:], int(code)]
    return history, behaviour


def one_hot(slot, value=1.0):
    return np.array([value if slot == place else 0.0 for place in range(SLOTS)])


def outcome(user, observation, events, memory, satisfaction, left, /, **response):
    """What a step should lead to."""
    history, behaviour = push(observation, events)
    return {
        "history": history,
        "behaviour": behaviour,
        "memory": memory,
        "satisfaction": satisfaction,
        "steps": user.steps + 1,
        "terminated": left,
        "truncated": user.steps + 1 >= MODEL.max_steps and not left,
        **{f"signal {name}": value for name, value in response.items()},
    }


# The domains.


def video(params, user, slate, uniform, world):
    shown = slate != PAD_ID
    liked = attraction(params, user, slate)
    slot = choose(liked + MODEL.bait * params.factors.bait[slate], shown, uniform[0])
    if slot is None:
        memory, satisfaction = settled(user, None, 0.0)
        signals = dict.fromkeys(("click", "watch_time", "completion", "satisfaction"), np.zeros(SLOTS))
        return outcome(user, user.observation, [], memory, satisfaction, leaves(satisfaction, uniform[2]), **signals)
    item = slate[slot]
    length = params.length[item]
    pleasure = sigmoid(liked[slot] - params.videos.length_weight * np.log(length / params.videos.median_length))
    completed = uniform[1] < pleasure
    seconds = length if completed else length * (uniform[1] - pleasure) / (1 - pleasure)
    memory, satisfaction = settled(user, params.factors.topics[item], pleasure)
    return outcome(
        user,
        user.observation,
        [(item, Behaviour.PLAY if completed else Behaviour.CLICK)],
        memory,
        satisfaction,
        leaves(satisfaction, uniform[2]),
        click=one_hot(slot),
        watch_time=one_hot(slot, seconds),
        completion=one_hot(slot, float(completed)),
        satisfaction=one_hot(slot, pleasure),
    )


def ecommerce(params, visitor, slate, uniform, world):
    user, shop = visitor.user, params.shop
    liked = attraction(params, user, slate)
    slot = choose(liked + MODEL.bait * params.factors.bait[slate], slate != PAD_ID, uniform[0])
    signals = dict.fromkeys(("click", "cart", "conversion", "revenue", "satisfaction"), np.zeros(SLOTS))
    if slot is None:
        memory, satisfaction = settled(user, None, 0.0)
        return outcome(user, user.observation, [], memory, satisfaction, leaves(satisfaction, uniform[3]), **signals)
    item, topic = slate[slot], params.factors.topics[slate[slot]]
    price = params.price[item]
    pleasure = sigmoid(liked[slot] - visitor.sensitivity * np.log(price / shop.median_price))
    if world.stock[item] <= 0:
        pleasure = 0.0
    cart = uniform[1] < shop.cart_rate * pleasure
    bought = cart and uniform[2] < shop.checkout_rate
    memory, satisfaction = settled(user, topic, pleasure)
    if bought:
        memory = (1 - shop.need_met) * user.memory + shop.need_met * topic
    signals |= {
        "click": one_hot(slot),
        "cart": one_hot(slot, float(cart)),
        "conversion": one_hot(slot, float(bought)),
        "revenue": one_hot(slot, price * bought),
        "satisfaction": one_hot(slot, pleasure),
    }
    strongest = Behaviour.PURCHASE if bought else Behaviour.CART if cart else Behaviour.CLICK
    left = leaves(satisfaction, uniform[3])
    return outcome(user, user.observation, [(item, strongest)], memory, satisfaction, left, **signals)


def music(params, listener, slate, uniform, world):
    user, own = listener.user, params.listening
    track = int(slate[0])
    ages = range(LENGTH - 1, -1, -1)
    past = list(zip(user.observation.history, user.observation.behaviour, ages, strict=True))
    familiar = sum(
        own.familiarity_decay**age for item, code, age in past if item == track and code == int(Behaviour.PLAY)
    )
    fatigue = (1 - MODEL.memory_decay) * sum(
        MODEL.memory_decay**age
        for item, _, age in past
        if item != PAD_ID and params.artist[item] == params.artist[track]
    )
    liked = attraction(params, user, slate)[0] - own.artist_weight * fatigue
    liked = sigmoid(liked + own.familiarity_gain * familiar - own.wear * familiar**2)
    played = uniform[0] < liked
    pleasure = liked * (1 - own.comfort * min(familiar, 1.0)) if played else 0.0
    memory, satisfaction = settled(user, params.factors.topics[track] if played else None, pleasure)
    pauses = leaves(satisfaction, uniform[1])
    gone = pauses and uniform[2] >= own.return_rate * satisfaction
    events = [(track, Behaviour.PLAY if played else Behaviour.VIEW)]
    if pauses:
        memory = np.zeros_like(memory)
    position = 0 if pauses else listener.position + 1
    found = outcome(
        user,
        user.observation,
        events,
        memory,
        satisfaction,
        gone,
        click=np.array([played]),
        skip=np.array([not played]),
        satisfaction=np.array([pleasure]),
    )
    return {**found, "position": position, "context": [min(position / 10, 1.0)]}


def news(params, user, positions, uniform, world):
    newsroom, articles = params.newsroom, user.observation.candidates.ids
    items = np.where(positions == PAD_ID, PAD_ID, articles[positions])
    # Two articles a step and eight of them: the oldest two are three steps old, and four steps is a life.
    ages = np.array([3, 3, 2, 2, 1, 1, 0, 0])[positions]
    liked = attraction(params, user, items)
    liked = liked + newsroom.surge * params.breaking[items] * np.exp(-ages / newsroom.surge_steps)
    liked = liked - newsroom.staleness * params.perishable[items] * ages / 4
    unread = np.array([item != PAD_ID and item not in user.observation.history for item in items])
    slot = choose(liked + MODEL.bait * params.factors.bait[items], unread, uniform[0])
    newest = [(2 * (world + 1) + place) % ITEMS for place in range(8)]
    events, pleasure = [], 0.0
    if slot is not None:
        events, pleasure = [(items[slot], Behaviour.CLICK)], sigmoid(liked[slot])
    topic = None if slot is None else params.factors.topics[items[slot]]
    memory, satisfaction = settled(user, topic, pleasure)
    left = leaves(satisfaction, uniform[1])
    signals = {"click": one_hot(slot), "satisfaction": one_hot(slot, pleasure)}
    found = outcome(user, user.observation, events, memory, satisfaction, left, **signals)
    return {**found, "candidates": newest}


def session(params, user, slate, uniform, world):
    liked = attraction(params, user, slate)
    slot = choose(liked + MODEL.bait * params.factors.bait[slate], slate != PAD_ID, uniform[0])
    pleasure = 0.0 if slot is None else sigmoid(liked[slot])
    bought = uniform[1] < MODEL.conversion_rate * pleasure
    events = [(item, Behaviour.IMPRESSION) for place, item in enumerate(slate) if item != PAD_ID and place != slot]
    if slot is not None:
        events += [(slate[slot], Behaviour.PURCHASE if bought else Behaviour.CLICK)]
    topic = None if slot is None else params.factors.topics[slate[slot]]
    memory, satisfaction = settled(user, topic, pleasure)
    signals = {"click": one_hot(slot), "conversion": one_hot(slot, bought), "satisfaction": one_hot(slot, pleasure)}
    left = leaves(satisfaction, uniform[2])
    return outcome(user, user.observation, events, memory, satisfaction, left, **signals)


REFERENCES = {"video": video, "ecommerce": ecommerce, "music": music, "news": news, "session": session}


# The comparison.


def who(state):
    """The part of a state that all domains have."""
    return state if hasattr(state, "memory") else state.user


def visited(env, rng):
    """Users in the middle of something: tired, pleased to some degree, with histories that repeat themselves."""
    world = env.world(jax.random.key(2))
    if hasattr(world, "stock"):
        world = world.replace(stock=world.stock.at[::3].set(0.0))
    elif world is not None:
        world = world + 9
    keys = jax.random.split(jax.random.key(0), USERS)
    _, state = jax.jit(jax.vmap(env.reset, in_axes=(0, None, None)))(keys, env.params, world)
    user = who(state)
    memory = rng.normal(size=user.memory.shape)
    memory *= 0.8 * rng.random((USERS, 1)) / np.linalg.norm(memory, axis=1, keepdims=True)
    few = rng.integers(ITEMS, size=(USERS, 2))
    history = np.where(
        rng.random((USERS, LENGTH)) < 0.5, few[:, [0] * LENGTH], rng.integers(ITEMS, size=(USERS, LENGTH))
    )
    behaviour = rng.choice([int(Behaviour.PLAY), int(Behaviour.VIEW)], size=(USERS, LENGTH))
    padded = np.arange(LENGTH)[None] < rng.integers(LENGTH, size=(USERS, 1))
    observation = dataclasses.replace(
        user.observation,
        history=jnp.asarray(np.where(padded, PAD_ID, history), jnp.int32),
        behaviour=jnp.asarray(np.where(padded, PAD_ID, behaviour), jnp.int32),
    )
    user = user.replace(
        memory=jnp.asarray(memory, jnp.float32),
        satisfaction=jnp.asarray(rng.random(USERS), jnp.float32),
        steps=jnp.asarray(rng.integers(8, size=USERS), jnp.int32),
        observation=observation,
    )
    if hasattr(state, "memory"):
        return user, few, world
    state = state.replace(user=user)
    return (
        (state.replace(position=jnp.asarray(rng.integers(15, size=USERS))) if hasattr(state, "position") else state),
        few,
        world,
    )


def slates(env, rng, few):
    """Distinct items or positions, some slots empty; of single tracks one that is known in half of the cases."""
    if env.spec.slate_size == 1:
        return np.where(rng.random((USERS, 1)) < 0.5, few[:, :1], rng.integers(ITEMS, size=(USERS, 1)))
    choices = env.spec.num_candidates or ITEMS
    drawn = np.stack([rng.permutation(choices)[:SLOTS] for _ in range(USERS)])
    return np.where(rng.random(drawn.shape) < 0.15, PAD_ID, drawn)


def in_numpy(tree, row=None):
    """The same fields in float64, of one row."""
    if tree is None:
        return None
    if dataclasses.is_dataclass(tree):
        fields = {field.name: in_numpy(getattr(tree, field.name), row) for field in dataclasses.fields(tree)}
        return SimpleNamespace(**fields)
    array = np.asarray(tree) if row is None else np.asarray(tree)[row]
    return array.astype(float) if array.dtype.kind == "f" else array


def found(transition, row):
    """What a step has led to, under the names of :func:`outcome`."""
    # Rows of NumPy arrays: indexing JAX's costs a program each time.
    state = in_numpy(transition.state, row)
    user = who(state)
    observation = in_numpy(transition.observation, row)
    return {
        "history": observation.history,
        "behaviour": observation.behaviour,
        "memory": user.memory,
        "satisfaction": user.satisfaction,
        "steps": user.steps,
        "terminated": bool(np.asarray(transition.terminated)[row]),
        "truncated": bool(np.asarray(transition.truncated)[row]),
        "position": getattr(state, "position", None),
        "context": observation.context,
        "candidates": observation.candidates and observation.candidates.ids,
        **{f"signal {name}": np.asarray(value)[row].astype(float) for name, value in transition.response.items()},
    }


@pytest.mark.parametrize("name", sorted(MADE))
def test_steps_follow_the_definitions(name):
    env, rng = MADE[name](), np.random.default_rng(0)
    state, few, world = visited(env, rng)
    shown = slates(env, rng, few)
    keys = jax.random.split(jax.random.key(1), USERS)
    step = jax.jit(jax.vmap(env.step, in_axes=(0, 0, 0, None, None)))
    transition = step(keys, state, jnp.asarray(shown, jnp.int32), env.params, world)
    uniform = np.asarray(jax.vmap(lambda key: jax.random.uniform(key, (DRAWS[name],)))(keys), float)
    params, now = in_numpy(env.params), in_numpy(world)
    kinds = set()
    for row in range(USERS):
        expected = REFERENCES[name](params, in_numpy(state, row), shown[row], uniform[row], now)
        actual = found(transition, row)
        assert {key for key in actual if key.startswith("signal")} == {key for key in expected if "signal" in key}
        for what, value in expected.items():
            np.testing.assert_allclose(actual[what], value, rtol=2e-4, atol=1e-5, err_msg=f"{what} of user {row}")
        kinds.add((bool(np.any(expected["signal click"])), expected["terminated"], expected["truncated"]))
    assert len(kinds) >= 5, "users who click, who do not, who leave, who stay and who are cut off have been compared"
    assert name == "music" or {int(x) for x in np.asarray(transition.response["click"]).sum(1)} == {0, 1}
