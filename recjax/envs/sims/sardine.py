"""SARDINE: slates that are clicked in several places, topics that bore, clicks that change who clicks."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from recjax.envs.base import Environment, Transition, register
from recjax.envs.sims import sardine_users as users
from recjax.envs.sims.sardine_oracles import oracles
from recjax.envs.sims.sardine_users import LOG, TOPICS, SardineItems, SardineSetting, User
from recjax.response import CLICK, Response
from recjax.types import Array, Feature, Items, Observation, PyTree, Spec

_SINGLE, _NEVER = SardineSetting(slate_size=1), LOG + 1
_RERANK = SardineSetting(num_items=10, episode_length=10, offset=0.3, slope=5.0, click_discount=0.7)

SETTINGS = {
    "SingleItem-Static-v0": dataclasses.replace(_SINGLE, boredom_threshold=_NEVER),
    "SingleItem-BoredInf-v0": dataclasses.replace(_SINGLE, omega=0.95),
    "SingleItem-Uncertain-v0": dataclasses.replace(_SINGLE, boredom_threshold=_NEVER, slope=10.0),
    "SlateTopK-Bored-v0": SardineSetting(),
    "SlateTopK-BoredInf-v0": SardineSetting(omega=0.95),
    "SlateTopK-Uncertain-v0": SardineSetting(omega=0.95, slope=10.0),
    "SlateRerank-Static-v0": dataclasses.replace(_RERANK, boredom_threshold=_NEVER),
    "SlateRerank-Bored-v0": dataclasses.replace(_RERANK, boredom_threshold=4),
}
"""The eight settings of the original, under its names."""


@register("sardine")
def sardine(
    setting: str | SardineSetting = "SlateTopK-BoredInf-v0",
    *,
    faithful: bool = False,
    history_length: int = 50,
    item_vectors: Any = None,
    key: Array | None = None,
) -> Environment:
    """Users whom many clicks on one topic bore, and whom their clicks change.

    Items ``i`` have vectors ``e_i`` over ten topics, unit ones in two or three topics unless they are given, and a main
    topic: the largest number. A user has a unit vector ``u`` over three to five topics. With the names of
    :class:`recjax.envs.SardineSetting`, a step is:

    * interest ``v``: with ``boredom="user_car"`` (churn and return) ``u``, or nothing while any topic bores; with
      ``"user_tloi"`` (temporary loss of interest) ``u`` without the topics that bore;
    * relevance ``r_i = sigmoid((<e_i, v> / max |e| - offset) * slope)``;
    * the item in slot ``j = 0, 1, ...`` is clicked with probability ``r_i * click_discount ** j``, each on its own;
    * remembered are those of the last 10 clicks that were in the last 5 steps; a main topic with ``boredom_threshold``
      remembered clicks bores for 5 steps;
    * after clicks, ``u`` becomes ``omega * u + (1 - omega) * mean of the clicked e_i``, normalised.

    Whoever arrives has answered one slate of distinct random items. Nobody leaves: episodes are cut after
    ``episode_length`` steps. No step reads more of the catalogue than its slate.

    An ``Observation`` has the last slates, slot by slot: clicks, and impressions that were not clicked. Its context
    has, of each topic, the remembered clicks as a share of ``boredom_threshold``, at most 1. That is what the original
    shows; its "ideal state", interest and what bores, is for oracles. Main topics are a feature of the items.

    ``faithful=True`` repeats what the original's code does:

    * influence adds one number to every topic, the mean of all numbers of the clicked vectors (a mean without an axis),
      where their mean vector is meant;
    * the first slate is drawn with replacement, so it may hold an item twice.

    Options of the original that none of its settings uses are left out: penalties of relevance while bored and of
    slates with many items of a topic, a threshold of relevance, other click models.

    Args:
      setting: a name of the original: "SingleItem-Static-v0", "SingleItem-BoredInf-v0", "SingleItem-Uncertain-v0",
        "SlateTopK-Bored-v0", "SlateTopK-BoredInf-v0", "SlateTopK-Uncertain-v0", "SlateRerank-Static-v0",
        "SlateRerank-Bored-v0"; or other numbers.
      faithful: see above.
      history_length: positions of a history.
      item_vectors: ``[N, 10]`` non-negative vectors of items, such as those that come with the original; by default
        drawn as it draws them.
      key: PRNG key of drawn items; ``jax.random.key(0)`` by default.

    Returns:
      The environment. Its oracles are "myopic" and, where there is boredom, "look_ahead".

    Raises:
      ValueError: an argument is none of those it may be.

    References:
      Deffayet, Thonet, Hwang, Lehoux, Renders, de Rijke, "SARDINE: Simulator for Automated Recommendation in Dynamic
      and Interactive Environments", ACM TORS 2024; its code, https://github.com/naver/sardine.

    >>> env = sardine("SlateTopK-Bored-v0")
    >>> observation, state = jax.jit(env.reset)(jax.random.key(1), env.params, None)
    >>> after = jax.jit(env.step)(jax.random.key(2), state, jnp.arange(10), env.params, None)
    >>> after.response["click"].shape, after.observation.context.shape
    ((10,), (10,))
    """
    chosen = setting if isinstance(setting, SardineSetting) else _named(setting)
    spec = Spec(
        chosen.num_items, chosen.slate_size, history_length, context_size=TOPICS, has_impressions=True, signals=(CLICK,)
    )
    vectors = _drawn(key, chosen.num_items) if item_vectors is None else _checked(item_vectors, chosen.num_items)
    topics = np.argmax(vectors, axis=1)
    params = SardineItems(
        vectors=jnp.asarray(vectors, jnp.float32),
        max_norm=jnp.asarray(np.linalg.norm(vectors, axis=1).max(), jnp.float32),
        topics=jnp.asarray(topics, jnp.int32),
    )
    ones = jnp.ones(chosen.num_items)
    main_topic = Feature(jnp.asarray(np.eye(TOPICS)[topics], jnp.float32), "multi_hot")
    items = Items(popularity=ones, is_new=jnp.zeros_like(ones, bool), features={"main_topic": main_topic})
    reset = partial(_reset, spec=spec, setting=chosen, faithful=faithful)
    step = partial(_step, setting=chosen, faithful=faithful)
    return Environment(spec, params, items, reset, step, oracles=oracles(chosen, topics))


def _named(setting: str) -> SardineSetting:
    if setting not in SETTINGS:
        raise ValueError(f"sardine has no setting {setting!r}; choose {', '.join(SETTINGS)}, or give a SardineSetting.")
    return SETTINGS[setting]


def _drawn(key: Array | None, num_items: int) -> np.ndarray:
    """``f64[N, 10]``: uniform numbers in two or three random topics, normalised."""
    # Built once, so on the host: there is no program to compile for each size of catalogue.
    rng = np.random.default_rng(np.asarray(jax.random.key_data(jax.random.key(0) if key is None else key)))
    width = 2 + (rng.random((num_items, 1)) < 0.5)
    rank = np.argsort(np.argsort(rng.random((num_items, TOPICS)), axis=1), axis=1)
    vectors = np.where(rank < width, rng.random((num_items, TOPICS)), 0.0)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _checked(item_vectors: Any, num_items: int) -> np.ndarray:
    vectors = np.asarray(item_vectors, np.float64)
    if vectors.shape != (num_items, TOPICS):
        raise ValueError(f"item_vectors has shape {vectors.shape}; this setting needs {(num_items, TOPICS)}.")
    wrong = vectors[~(np.isfinite(vectors) & (vectors >= 0))]
    if wrong.size:
        raise ValueError(f"item_vectors holds {wrong[0]}; all of its numbers must be finite and >= 0.")
    return vectors


def _reset(
    key: Array, params: SardineItems, world: PyTree, *, spec: Spec, setting: SardineSetting, faithful: bool
) -> tuple[Observation, User]:
    uniform = jax.random.uniform(key, (users.ARRIVAL_DRAWS + 2 * setting.slate_size,))
    of_user, of_slate, of_clicks = jnp.split(uniform, [users.ARRIVAL_DRAWS, users.ARRIVAL_DRAWS + setting.slate_size])
    slate = users.random_slate(of_slate, setting.num_items, repeats=faithful)
    user = users.arrive(of_user, spec.empty_observation())
    user, _ = users.answer(of_clicks, user, slate, params, setting, faithful=faithful)
    return user.observation, user


def _step(
    key: Array,
    state: User,
    slate: Array,
    params: SardineItems,
    world: PyTree,
    *,
    setting: SardineSetting,
    faithful: bool,
) -> Transition:
    uniform = jax.random.uniform(key, slate.shape)
    user, click = users.answer(uniform, state, slate, params, setting, faithful=faithful)
    return Transition(
        observation=user.observation,
        state=user,
        response=Response(click=click.astype(jnp.float32)),
        terminated=jnp.zeros((), bool),
        truncated=user.steps > setting.episode_length,
        info={"bored_topics": jnp.sum(user.bored_for > 0).astype(jnp.float32)},
    )
