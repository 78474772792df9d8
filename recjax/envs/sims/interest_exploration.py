"""RecSim's interest exploration: what most users like hides what some would like more.

A document is of topic 0 with probability 0.2 and of topic 1 with 0.8; the logarithm of its quality ``f`` is
``N((0.8, 0.2)[topic], 0.1^2)``. A user is of type 0 with probability 0.3 and of type 1 with 0.7; the logarithms of the
affinities ``g`` for the topics are ``N((0.1, 0.7), 0.1^2)`` of type 0 and ``N((0.7, 0.1), 0.1^2)`` of type 1. Of a
slate ``A`` of ``M`` candidates the user clicks at most one document,

    P(i) = exp(g_t(i) + f_i) / (sum_A exp(g_t(j) + f_j) + exp(5)),

and stays the same whatever is shown: a correlated bandit for each user. There are new candidates at every step.

The original never ends a session; here it is truncated after ``max_steps``. It has no other quirk to be switched off,
hence no switch. Its documentation calls the numbers above means of affinities and qualities; they are those of their
logarithms in its code, and here.

References:
  Ie et al., "RecSim: a configurable simulation platform for recommender systems", arXiv 1909.04847, 2019, and its
  ``interest_exploration.py``.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from recjax.envs.base import Environment, Oracle, Transition, register
from recjax.envs.choice.models import ChoiceModel, draw, multinomial_logit
from recjax.envs.sims.documents import QUALITY, Documents, in_slots, normal, topics
from recjax.response import CLICK, Response
from recjax.types import Array, Candidates, Observation, PyTree, Revealed, Spec

TOPICS, LOG_STD = 2, 0.1
SECOND_TOPIC, SECOND_TYPE = 0.8, 0.7
"""Probabilities of topic 1 and of user type 1."""
LOG_QUALITY = (0.8, 0.2)
LOG_AFFINITY = ((0.1, 0.7), (0.7, 0.1))
NO_CLICK = 5.0


@struct.dataclass
class Visitor:
    """The state of one user.

    Attributes:
      affinity: ``f32[2]`` for the topics.
      shown: ``f32[2]`` documents of each topic that were shown.
      clicked: ``f32[2]`` and clicked.
      documents: the candidates of this step.
      steps: ``i32[]`` slates seen.
    """

    affinity: Array
    shown: Array
    clicked: Array
    documents: Documents
    steps: Array


Params = Documents | None
"""The candidates of every step, None where they are drawn anew."""


class Options(NamedTuple):
    """The arguments of :func:`interest_exploration` that reset and step read."""

    spec: Spec
    max_steps: int
    choice: ChoiceModel


@register("interest_exploration")
def interest_exploration(
    *,
    slate_size: int = 2,
    num_candidates: int = 5,
    max_steps: int = 100,
    choice: ChoiceModel | None = None,
    resample: bool = True,
    key: Array | None = None,
) -> Environment:
    """RecSim's interest exploration; see the module for its rules.

    Items are the two topics, slates positions in the candidates. ``Observation.candidates.features`` is the quality of
    each, ``f32[M, 1]``. ``Observation.context`` holds what a platform has counted, ``log(1 + n)`` of how often each
    topic was shown and then of how often it was clicked, ``f32[4]``; the history is empty. The original leaves the
    counting to its agents.

    Args:
      slate_size: slots of a slate.
      num_candidates: documents of a step.
      max_steps: slates after which a session is cut.
      choice: how users choose, by ``g + f``; the original's ``multinomial_logit(5)`` if None.
      resample: whether every step has new candidates; otherwise all users always have the same ones.
      key: PRNG key of the candidates where they stay the same; ``jax.random.key(0)`` by default.

    Raises:
      ValueError: a size is out of range.

    >>> env = interest_exploration()
    >>> observation, user = jax.jit(env.reset)(jax.random.key(1), env.params, None)
    >>> observation.candidates.features.shape, observation.context.tolist()
    ((5, 1), [0.0, 0.0, 0.0, 0.0])
    """
    if max_steps < 1:
        raise ValueError(f"max_steps is {max_steps}; a session has at least 1 step.")
    spec = Spec(
        TOPICS,
        slate_size,
        history_length=1,
        context_size=2 * TOPICS,
        num_candidates=num_candidates,
        candidate_size=1,
        signals=(CLICK, QUALITY),
    )
    options = Options(spec, max_steps, multinomial_logit(NO_CLICK) if choice is None else choice)
    always = None
    if not resample:
        always = _documents(jax.random.uniform(jax.random.key(0) if key is None else key, (num_candidates,)))
    reset, step = partial(_reset, options), partial(_step, options)
    return Environment(spec, always, topics(TOPICS), reset, step, oracles=_oracles(options))


def _observe(options: Options, user: Visitor) -> Observation:
    topic, quality = user.documents
    return dataclasses.replace(
        options.spec.empty_observation(),
        context=jnp.log1p(jnp.append(user.shown, user.clicked)),
        candidates=Candidates(topic, quality[:, None]),
    )


def _reset(options: Options, key: Array, params: Params, world: PyTree) -> tuple[Observation, Visitor]:
    del world
    uniform = jax.random.uniform(key, (1 + TOPICS + options.spec.num_candidates,))
    kind = (uniform[0] < SECOND_TYPE).astype(jnp.int32)
    affinity = jnp.exp(jnp.asarray(LOG_AFFINITY)[kind] + LOG_STD * normal(uniform[1 : 1 + TOPICS]))
    documents = _next_documents(uniform[1 + TOPICS :], params)
    user = Visitor(affinity, jnp.zeros(TOPICS), jnp.zeros(TOPICS), documents, jnp.int32(0))
    return _observe(options, user), user


def _step(options: Options, key: Array, state: Visitor, slate: Array, params: Params, world: PyTree) -> Transition:
    del world
    uniform = jax.random.uniform(key, (1 + options.spec.num_candidates,))
    user, response = _respond(options, state, slate, uniform[0])
    user = dataclasses.replace(user, documents=_next_documents(uniform[1:], params))
    over = user.steps >= options.max_steps
    return Transition(_observe(options, user), user, response, jnp.array(False), over, {})


def _next_documents(uniform: Array, params: Params) -> Documents:
    return _documents(uniform) if params is None else params


def _documents(uniform: Array) -> Documents:
    """Documents drawn by one number in [0, 1) each: which topic's share it is in, and where in that."""
    second = uniform < SECOND_TOPIC
    within = jnp.where(second, uniform / SECOND_TOPIC, (uniform - SECOND_TOPIC) / (1.0 - SECOND_TOPIC))
    topic = second.astype(jnp.int32)
    return Documents(topic, jnp.exp(jnp.asarray(LOG_QUALITY)[topic] + LOG_STD * normal(within)))


def _respond(options: Options, user: Visitor, slate: Array, uniform: Array) -> tuple[Visitor, Response]:
    """The user after a slate, the candidates still those of before."""
    shown, topic, quality = in_slots(user.documents, slate)
    chances = options.choice.probabilities(user.affinity[topic] + quality, shown)
    click = jnp.arange(slate.shape[0]) == draw(chances, uniform)
    is_topic = topic[:, None] == jnp.arange(TOPICS)[None]
    count = lambda slots: jnp.sum(is_topic & slots[:, None], axis=0, dtype=jnp.float32)  # noqa: E731
    user = dataclasses.replace(
        user, shown=user.shown + count(shown), clicked=user.clicked + count(click), steps=user.steps + 1
    )
    return user, Response(click=click.astype(jnp.float32), quality=quality)


def _oracles(options: Options) -> dict[str, Oracle]:
    return {
        "myopic": Oracle(
            partial(_choose, options, False),
            "the slate most likely to be clicked, by true affinities: the optimum, since users stay what they are",
        ),
        "average": Oracle(
            partial(_choose, options, True),
            "the slate most likely to be clicked by a user of mean affinities: what is reached without exploring",
        ),
    }


def _choose(options: Options, of_average: bool, key: Array, users: Revealed, setting: None) -> Array:
    del key, setting
    topic, quality = users.state.documents
    affinity = users.state.affinity
    if of_average:
        of_types = jnp.exp(jnp.asarray(LOG_AFFINITY) + LOG_STD**2 / 2)
        mean = (1.0 - SECOND_TYPE) * of_types[0] + SECOND_TYPE * of_types[1]
        affinity = jnp.broadcast_to(mean[None], affinity.shape)
    scores = jnp.take_along_axis(affinity, topic, axis=1) + quality
    return options.choice.best_slate(scores, jnp.ones_like(scores), jnp.zeros(len(scores)), options.spec.slate_size)
