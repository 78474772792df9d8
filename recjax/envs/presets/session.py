"""A visit of somebody unknown: no history, strong tastes and a few slates in which to learn them.

Everything but who arrives is as in :mod:`recjax.envs.choice.dynamics`: visitors come with an empty history and a taste
``taste_scale`` times as strong as that of :func:`recjax.envs.synthetic`, which nobody has seen before, and are cut off
after ``max_steps`` slates. What they like has to be found out while they are there, so histories also hold what was
shown and passed over: after each slate its items in order, as IMPRESSION, and last the one that was clicked.

The scale of tastes is chosen so that what is personal outweighs what all agree on: a standard deviation of
2.1 logits, where items differ by 0.8.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct

from recjax.envs.base import Environment, Oracle, Transition, register
from recjax.envs.choice import dynamics
from recjax.envs.choice.oracles import STILL as KNOWING
from recjax.envs.choice.oracles import appraisal
from recjax.envs.choice.planning import Appraisal, grid, planner, yardsticks
from recjax.envs.choice.response_model import ResponseModel
from recjax.envs.sims import population
from recjax.envs.sims.synthetic import synthetic
from recjax.types import PAD_ID, Array, Behaviour, Observation, PyTree

VISITORS = ResponseModel(no_click_logit=1.0, max_steps=15.0)
"""How these users respond unless told otherwise: as everybody, a little sooner, and not for long."""


@struct.dataclass
class Params(population.Params):
    """What all visitors share; in addition ``f32[]`` how strong their tastes are."""

    taste_scale: Array


@struct.dataclass
class Plan:
    """How much a policy hopes for what it knows little of, in standard deviations of its belief.

    The optimism of Li et al., "A contextual-bandit approach to personalized news article recommendation", WWW 2010.
    """

    curiosity: Array


STILL = Plan(curiosity=0.0)  # type: ignore[arg-type]
CURIOSITY = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0)
"""Plans that are searched."""


@register("session")
def session(
    *,
    num_items: int = 1000,
    slate_size: int = 2,
    history_length: int = 30,
    taste_scale: float = 3.0,
    response_model: ResponseModel | None = None,
    key: Array | None = None,
) -> Environment:
    """Unknown visitors with strong tastes; the reward that it is made for is "click".

    The oracles ``myopic`` and ``look_ahead`` know the items and the rules, and of a visitor what was clicked and
    passed over; ``revealed`` knows the taste.

    Args:
      num_items: items in the catalogue.
      slate_size: slots of a slate.
      history_length: positions of a history; a slate takes ``slate_size`` of them.
      taste_scale: how much stronger tastes are than those of ``synthetic``.
      response_model: how visitors respond; :data:`VISITORS` if None.
      key: PRNG key of the catalogue; ``jax.random.key(0)`` by default.

    Raises:
      ValueError: an argument is out of range.

    >>> env = session(num_items=50)
    >>> observation, _ = env.reset(jax.random.key(1), env.params, None)
    >>> int((observation.history != PAD_ID).sum())
    0
    """
    if not taste_scale > 0:
        raise ValueError(f"session got taste_scale={taste_scale}; it must be above 0.")
    base = synthetic(
        num_items=num_items,
        slate_size=slate_size,
        history_length=history_length,
        response_model=VISITORS if response_model is None else response_model,
        key=key,
    )

    def reset(key: Array, params: Params, world: PyTree) -> tuple[Observation, dynamics.User]:
        _, user = base.reset(key, params, world)
        observation = base.spec.empty_observation()
        vector = params.taste_scale * user.vector
        return observation, dataclasses.replace(user, vector=vector, observation=observation)

    def step(key: Array, state: dynamics.User, slate: Array, params: Params, world: PyTree) -> Transition:
        after = base.step(key, state, slate, params, world)
        observation = _with_impressions(state.observation, slate, after, num_items)
        return after._replace(observation=observation, state=dataclasses.replace(after.state, observation=observation))

    return base._replace(
        spec=dataclasses.replace(base.spec, has_impressions=True),
        params=Params(**vars(base.params), taste_scale=jnp.float32(taste_scale)),
        reset=reset,
        step=step,
        oracles=_oracles(slate_size),
    )


def _with_impressions(before: Observation, slate: Array, after: Transition, num_items: int) -> Observation:
    """The observation before a slate with what was passed over, and last what was clicked."""
    click = after.response["click"] > 0
    passed = (slate >= 0) & (slate < num_items) & ~click
    observation = before
    for slot in range(slate.shape[0]):
        observation = dynamics.append(observation, slate[slot], jnp.int32(Behaviour.IMPRESSION), passed[slot])
    newest = after.observation
    return dynamics.append(observation, newest.history[-1], newest.behaviour[-1], jnp.any(click))


def belief(observation: Observation, slate_size: int, params: Params) -> tuple[Array, Array]:
    """The taste that a visit suggests: mean ``f32[T]`` and covariance ``f32[T, T]`` of a normal distribution.

    Each item that was shown counts as one trial, which a click wins: a logistic model whose offset is the logit of
    clicking something else or nothing, where the others on the slate are indifferent. With the prior of arrivals its
    posterior is approximated by one step of Newton's method from the prior mean, which is 0.
    """
    factors, history = params.factors, observation.history
    offset = jnp.log(jnp.exp(params.response_model.no_click_logit) + slate_size - 1)
    vectors = jnp.where((history != PAD_ID)[:, None], factors.vectors[history], 0.0)
    expected = jax.nn.sigmoid(factors.bias[history] - offset)
    won = observation.behaviour != int(Behaviour.IMPRESSION)
    prior = jnp.eye(vectors.shape[1]) / params.taste_scale**2
    covariance = jnp.linalg.inv(prior + vectors.T @ ((expected * (1.0 - expected))[:, None] * vectors))
    return covariance @ (vectors.T @ (won - expected)), covariance


def _appraise(user: dynamics.User, params: Params, hope: Array | float) -> Appraisal:
    """What is expected of a visitor of this taste.

    Args:
      user: one visitor, or what is believed of them.
      params: of the environment.
      hope: ``f32[N]`` logits that are added to what the taste says.
    """
    model, factors, seen = params.response_model, params.factors, user.observation
    attraction = dynamics.attraction(user, jnp.arange(factors.bias.shape[0]), model, factors) + hope
    appeal = attraction + model.bait * factors.bait
    found = appraisal(user, appeal, jnp.ones_like(appeal), jax.nn.sigmoid(attraction), model, KNOWING)
    # What was passed over once may be shown again.
    return found._replace(exclude=jnp.where(seen.behaviour == int(Behaviour.IMPRESSION), PAD_ID, seen.history))


def _oracles(slate_size: int) -> dict[str, Oracle]:
    def by_visit(user: dynamics.User, params: Params, world: PyTree, plan: Plan) -> Appraisal:
        mean, covariance = belief(user.observation, slate_size, params)
        vectors = params.factors.vectors
        doubt = jnp.sqrt(jnp.sum((vectors @ covariance) * vectors, axis=1))
        guess = dataclasses.replace(user, vector=mean, bias=jnp.zeros(()))
        return _appraise(guess, params, plan.curiosity * doubt)

    def by_taste(user: dynamics.User, params: Params, world: PyTree, plan: None) -> Appraisal:
        return _appraise(user, params, 0.0)

    family = grid(Plan, curiosity=CURIOSITY)
    curious = yardsticks(by_visit, slate_size, STILL, family, "hoping for what is little known")
    doc = "the slate with the largest expected reward of this step, by"
    return {
        "myopic": curious["myopic"]._replace(doc=f"{doc} the taste that this visit suggests"),
        "look_ahead": curious["look_ahead"],
        "revealed": Oracle(planner(by_taste, slate_size, None), f"{doc} true taste"),
    }
