"""A log whose users' tastes are known, because they were planted."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax import envs
from recjax.data import Dataset, IdMap, Interactions, item_features
from recjax.envs import Environment
from recjax.types import Array, Behaviour, Observation, PyTree

NUM_USERS, NUM_ITEMS, EVENTS_PER_USER = 120, 40, 25


@pytest.fixture(scope="session")
def planted_logits() -> np.ndarray:
    """``f64[U, I]``: biases, and two kinds of users who like opposite halves of the items."""
    rng = np.random.default_rng(0)
    kind = np.where(np.arange(NUM_USERS) % 2, 1.0, -1.0)
    half = np.where(np.arange(NUM_ITEMS) < NUM_ITEMS // 2, 1.0, -1.0)
    biases = rng.normal(size=(NUM_USERS, 1)) * 0.5 + rng.normal(size=NUM_ITEMS) * 0.5
    return biases + 2.0 * kind[:, None] * half


@pytest.fixture(scope="session")
def dataset(planted_logits: np.ndarray) -> Dataset:
    rng = np.random.default_rng(1)
    user = np.repeat(np.arange(NUM_USERS), EVENTS_PER_USER)
    item = np.concatenate([rng.permutation(NUM_ITEMS)[:EVENTS_PER_USER] for _ in range(NUM_USERS)])
    liked = rng.random(user.size) < 1 / (1 + np.exp(-planted_logits[user, item]))
    return Dataset(
        name="planted",
        interactions=Interactions(
            user, item, time=rng.integers(0, 1000, user.size), rating=np.where(liked, 5.0, 2.0).astype(np.float32)
        ),
        users=IdMap(tuple(f"u{u}" for u in range(NUM_USERS))),
        items=IdMap(tuple(f"i{i}" for i in range(NUM_ITEMS))),
        context_names=("odd",),
        context=(np.arange(NUM_USERS)[:, None] % 2).astype(np.float32),
    )


def ratings(users: int, items: int) -> np.ndarray:
    """Whole numbers 1 to 5."""
    return np.random.default_rng(2).integers(1, 6, (users, items)).astype(np.float32)


def small_networks() -> dict[str, np.ndarray]:
    """Untrained networks of VirtualTaobao with two hidden units."""
    rng, arrays = np.random.default_rng(3), {}
    for name, widths in {"generator": (128, 2, 88), "leave": (88, 2, 2, 101), "action": (116, 2, 2, 21)}.items():
        for layer, (before, after) in enumerate(itertools.pairwise(widths)):
            arrays[f"{name}.{2 * layer}.weight"] = rng.normal(size=(after, before)).astype(np.float32)
            arrays[f"{name}.{2 * layer}.bias"] = rng.normal(size=after).astype(np.float32)
    return arrays


def untrained_users(dataset: Dataset) -> envs.UserModel:
    """Two members that factorise users and items, as they start."""
    network = envs.FactorNetwork(1, dataset.num_users, dataset.num_items, factors=2)
    nobody = jnp.zeros(1, jnp.int32)

    def one(key: Array) -> PyTree:
        return network.init(key, nobody, Observation(nobody[:, None], nobody[:, None]), nobody[:, None], None)

    members = jax.vmap(one)(jax.random.split(jax.random.key(0)))
    return envs.UserModel(members, jnp.array([-2.0, 0.1, -1.0]), network, (Behaviour.LIKE,), True, 5)


def untrained_kuaisim(dataset: Dataset, *, faithful: bool) -> envs.UserModel:
    """KuaiSim's response model, small and as it starts."""
    network = envs.KuaiSimNetwork(
        1, dataset.num_users, dataset.num_items, latent=4, width=4, hidden=8, history_length=6, double_sigmoid=faithful
    )
    nobody = jnp.zeros(1, jnp.int32)
    observation = Observation(nobody[:, None], nobody[:, None], jnp.zeros((1, 1)))
    params = network.init(jax.random.key(0), nobody, observation, nobody[:, None], item_features(dataset))
    members = jax.tree.map(lambda leaf: leaf[None], params)
    return envs.UserModel(members, jnp.zeros(3), network, (Behaviour.LIKE,), True, 6)


MADE: dict[str, Callable[[Dataset], Environment]] = {
    "synthetic": lambda dataset: envs.synthetic(num_items=30, slate_size=4, history_length=5),
    "coat": lambda dataset: envs.coat(ratings(6, 12)),
    "coat_clicks": lambda dataset: envs.coat_clicks(ratings(6, 12)),
    "matrix": lambda dataset: envs.matrix(
        ratings(6, 12), click_from=4, leaving=envs.too_often(np.eye(12)[:, :3], threshold=0, window=2), slate_size=3
    ),
    "virtual_taobao": lambda dataset: envs.virtual_taobao(small_networks()),
    "conversational": lambda dataset: envs.conversational(num_items=20, attributes=4, history_length=6),
    "ecommerce": lambda dataset: envs.ecommerce(num_items=30, slate_size=3, history_length=5),
    "music": lambda dataset: envs.music(num_items=30, history_length=5),
    "news": lambda dataset: envs.news(num_items=30, num_candidates=8, slate_size=3, history_length=5),
    "session": lambda dataset: envs.session(num_items=30, slate_size=3, history_length=9),
    "video": lambda dataset: envs.video(num_items=30, slate_size=3, history_length=5),
    "fitted": lambda dataset: envs.fitted(dataset, user_model=untrained_users(dataset), slate_size=3, max_steps=4),
    "kuaisim": lambda dataset: envs.kuaisim(
        dataset, user_model=untrained_kuaisim(dataset, faithful=False), slate_size=3, temper=4.0
    ),
    "kuaisim_faithful": lambda dataset: envs.kuaisim_faithful(
        dataset, user_model=untrained_kuaisim(dataset, faithful=True), slate_size=2, level="cross_session"
    ),
    "logged": lambda dataset: envs.logged(dataset, slate_size=3, history_length=4),
    "recogym": lambda dataset: envs.recogym(num_items=30, history_length=6),
    "sardine": lambda dataset: envs.sardine(envs.SardineSetting(num_items=40, slate_size=4), history_length=6),
    "interest_evolution": lambda dataset: envs.interest_evolution(num_candidates=5, budget=True),
    "interest_exploration": lambda dataset: envs.interest_exploration(max_steps=4),
    "long_term_satisfaction": lambda dataset: envs.long_term_satisfaction(slate_size=2, exposure=True),
    "long_term_satisfaction_hard": lambda dataset: envs.environments.make("long_term_satisfaction_hard", steps=4),
}
"""A small environment of every registered name."""


@pytest.fixture(scope="session")
def untrained() -> dict[str, np.ndarray]:
    return small_networks()


@pytest.fixture(scope="session")
def names() -> set[str]:
    return set(MADE)


@pytest.fixture(scope="session", params=sorted(MADE))
def env(request: pytest.FixtureRequest, dataset: Dataset) -> Environment:
    return MADE[request.param](dataset)
