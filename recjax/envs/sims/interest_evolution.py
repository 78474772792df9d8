"""RecSim's interest evolution: watching videos changes what users like, and good ones make them stay longer.

A document is of one of 20 topics ``t``, drawn uniformly, and has a quality ``q ~ N(mu_t, 0.1^2)``; the means rise from
-3 to 0 over the first 14 topics and from 0 to 3 over the others. A user has interests ``u ~ U(-1, 1)^20``, which are
observed, and a budget of ``b = 200`` minutes, which is not. Of a slate ``A`` of ``M`` candidates the user clicks one
document or none; with the choice model of the original

    P(i) = (u_t(i) + 1) / (sum_A (u_t(j) + 1) + 2).

* Click: the user watches ``w = min(b, 4)`` minutes, the reward. The interest in that topic moves,
  ``u_t <- u_t ± 0.3 (1 - |u_t|) (1 - u_t)``, which is in [-1, 1] again, up with probability ``(u_t + 1) / 2`` and
  otherwise down. Then ``b <- b - w + (0.9 / 3.4) w (q + f x)``, where ``f`` is ``user_quality_factor``, 0 in the
  original, and ``x`` is ``u_t`` before the move.
* No click: ``b <- b - 0.5``.
* The user leaves once ``b <= 0``. There are new candidates at every step.

So who is to be kept is shown what lengthens the session: documents of the last five topics cost less time than they
take to watch.

What the original does otherwise, with ``faithful=True``:

* ``x`` is not the affinity but its weight in the choice model, ``u_t + 1`` with the original's. It makes no
  difference at ``user_quality_factor=0``.

And what it does in ways that have no place here: choices come from NumPy's global generator, so that a seed does not
repeat a run; nothing keeps a slate from holding a document twice; a signal "liked" is always 0. Its documents are
numbered; here a document is known by its topic, which is all that the original's agents see of it, too.

References:
  Ie et al., "SlateQ: a tractable decomposition for reinforcement learning with recommendation sets", IJCAI 2019;
  Ie et al., "RecSim: a configurable simulation platform for recommender systems", arXiv 1909.04847, 2019, and its
  ``interest_evolution.py`` (the models of utility, which its ``create_environment`` uses).
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from recjax.envs.base import Environment, Oracle, Transition, register
from recjax.envs.choice.models import ChoiceModel, draw, multinomial_proportional
from recjax.envs.sims.documents import QUALITY, Documents, in_slots, normal, topics
from recjax.response import CLICK, Response, Signal
from recjax.types import Array, Candidates, Observation, PyTree, Revealed, Spec

TOPICS, BAD_TOPICS, WORST, BEST, QUALITY_STD = 20, 14, -3.0, 3.0, 0.1
BUDGET, VIDEO_LENGTH, STEP_PENALTY = 200.0, 4.0, 0.5
"""Minutes."""
INTEREST_STEP, BUDGET_GAIN = 0.3, 0.9 / 3.4
PRICES = (0.8, 1.0, 1.2, 1.35, 1.5, 1.7, 2.0)
"""Minutes watched later for a minute of budget, among which the best is searched."""

WATCH_TIME = Signal("watch_time", "Time for which the document was watched; 0 where it was not clicked", unit="min")


@struct.dataclass
class Viewer:
    """The state of one user.

    Attributes:
      interests: ``f32[20]`` in [-1, 1].
      budget: ``f32[]`` minutes left.
      documents: the candidates of this step.
    """

    interests: Array
    budget: Array
    documents: Documents


Params = Documents | None
"""The candidates of every step, None where they are drawn anew."""


class Options(NamedTuple):
    """The arguments of :func:`interest_evolution` that reset and step read."""

    spec: Spec
    budget: bool
    choice: ChoiceModel
    user_quality_factor: float
    faithful: bool


@register("interest_evolution")
def interest_evolution(
    *,
    slate_size: int = 3,
    num_candidates: int = 10,
    budget: bool = False,
    choice: ChoiceModel | None = None,
    user_quality_factor: float = 0.0,
    resample: bool = True,
    faithful: bool = False,
    key: Array | None = None,
) -> Environment:
    """RecSim's interest evolution; see the module for its rules and what ``faithful`` changes.

    Items are topics, slates positions in the candidates, several of which may be of one topic. ``Observation.context``
    holds the interests; the history is empty, because they tell all that it could.

    Args:
      slate_size: slots of a slate.
      num_candidates: documents of a step.
      budget: whether ``Observation.context`` ends with the share of the budget that is left. Agents of the original
        are not given it, but could work it out: it follows from the clicks, watch times and qualities that they see.
      choice: how users choose, by their affinities ``u_t``; the original's ``multinomial_proportional(1, -1)`` if None.
      user_quality_factor: what a user's liking of a document adds to its utility beside quality.
      resample: whether every step has new candidates; otherwise all users always have the same ones.
      faithful: whether to repeat the original's quirks.
      key: PRNG key of the candidates where they stay the same; ``jax.random.key(0)`` by default.

    Raises:
      ValueError: a size is out of range.

    >>> env = interest_evolution(num_candidates=6)
    >>> observation, user = jax.jit(env.reset)(jax.random.key(1), env.params, None)
    >>> after = jax.jit(env.step)(jax.random.key(2), user, jnp.array([4, 0, 2]), env.params, None)
    >>> after.response["quality"].shape, observation.context.shape
    ((3,), (20,))
    """
    spec = Spec(
        TOPICS,
        slate_size,
        history_length=1,
        context_size=TOPICS + budget,
        num_candidates=num_candidates,
        signals=(CLICK, WATCH_TIME, QUALITY),
    )
    choice = multinomial_proportional(no_click=1.0, min_normalizer=-1.0) if choice is None else choice
    options = Options(spec, budget, choice, user_quality_factor, faithful)
    always = None
    if not resample:
        always = _documents(jax.random.uniform(jax.random.key(0) if key is None else key, (num_candidates,)))
    reset, step = partial(_reset, options), partial(_step, options)
    return Environment(spec, always, topics(TOPICS), reset, step, oracles=_oracles(options))


def _observe(options: Options, user: Viewer) -> Observation:
    context = jnp.append(user.interests, user.budget / BUDGET) if options.budget else user.interests
    candidates = Candidates(user.documents.topic)
    return dataclasses.replace(options.spec.empty_observation(), context=context, candidates=candidates)


def _reset(options: Options, key: Array, params: Params, world: PyTree) -> tuple[Observation, Viewer]:
    del world
    uniform = jax.random.uniform(key, (TOPICS + options.spec.num_candidates,))
    interests, documents = 2.0 * uniform[:TOPICS] - 1.0, _next_documents(uniform[TOPICS:], params)
    user = Viewer(interests, jnp.float32(BUDGET), documents)
    return _observe(options, user), user


def _step(options: Options, key: Array, state: Viewer, slate: Array, params: Params, world: PyTree) -> Transition:
    del world
    uniform = jax.random.uniform(key, (2 + options.spec.num_candidates,))
    user, response = _respond(options, state, slate, uniform[:2])
    user = dataclasses.replace(user, documents=_next_documents(uniform[2:], params))
    info = {"budget": user.budget}
    return Transition(_observe(options, user), user, response, user.budget <= 0, jnp.array(False), info)


def _next_documents(uniform: Array, params: Params) -> Documents:
    return _documents(uniform) if params is None else params


def _mean_quality(topic: Array) -> Array:
    # Not looked up in a table: XLA would compute all that leads to a topic once more for each look.
    bad = WORST * (1.0 - topic / (BAD_TOPICS - 1))
    return jnp.where(topic < BAD_TOPICS, bad, BEST * (topic - BAD_TOPICS) / (TOPICS - BAD_TOPICS - 1))


def _documents(uniform: Array) -> Documents:
    """Documents drawn by one number in [0, 1) each: where it lies among the topics, and where within its topic."""
    place = uniform * TOPICS
    topic = jnp.minimum(place.astype(jnp.int32), TOPICS - 1)
    return Documents(topic, _mean_quality(topic) + QUALITY_STD * normal(place - topic))


def _respond(options: Options, user: Viewer, slate: Array, uniform: Array) -> tuple[Viewer, Response]:
    """The user after a slate, the candidates still those of before."""
    shown, topic, quality = in_slots(user.documents, slate)
    affinity = user.interests[topic]
    click = jnp.arange(slate.shape[0]) == draw(options.choice.probabilities(affinity, shown), uniform[0])
    watched = jnp.where(click, jnp.minimum(user.budget, VIDEO_LENGTH), 0.0)
    response = Response(click=click.astype(jnp.float32), watch_time=watched, quality=quality)

    is_topic = jnp.any(click[:, None] & (topic[:, None] == jnp.arange(TOPICS)[None]), axis=0)
    move = INTEREST_STEP * (1.0 - jnp.abs(user.interests)) * (1.0 - user.interests)
    direction = jnp.where(uniform[1] < (user.interests + 1.0) / 2.0, 1.0, -1.0)
    interests = user.interests + jnp.where(is_topic, direction * move, 0.0)

    spent = jnp.sum(watched * _spent_a_minute(options, quality, affinity))
    budget = user.budget - jnp.where(jnp.any(click), spent, STEP_PENALTY)
    return dataclasses.replace(user, interests=interests, budget=budget), response


def _spent_a_minute(options: Options, quality: Array, affinity: Array) -> Array:
    """What watching documents for a minute takes off the budget."""
    liking = options.choice.weights(affinity) if options.faithful else affinity
    return 1.0 - BUDGET_GAIN * (quality + options.user_quality_factor * liking)


def _oracles(options: Options) -> dict[str, Oracle]:
    choose = partial(_choose, options)
    return {
        "myopic": Oracle(choose, "the slate with the largest expected watch time of this step"),
        "look_ahead": Oracle(
            choose,
            "the same, where the budget that a choice costs on average has a price: the best of"
            f" {len(PRICES)} prices, so a lower bound",
            jnp.asarray(PRICES),
        ),
    }


def _choose(options: Options, key: Array, users: Revealed, setting: Array | None) -> Array:
    del key
    price = jnp.float32(0.0) if setting is None else setting
    user: Viewer = users.state
    affinity = jnp.take_along_axis(user.interests, user.documents.topic, axis=1)
    watched = jnp.minimum(user.budget, VIDEO_LENGTH)[:, None]
    values = watched * (1.0 - price * _spent_a_minute(options, _mean_quality(user.documents.topic), affinity))
    nothing = jnp.broadcast_to(-price * STEP_PENALTY, user.budget.shape)
    return options.choice.best_slate(affinity, values, nothing, options.spec.slate_size)
