"""RecSim's long-term satisfaction (choc and kale): what engages now makes users like everything less.

A document has a share of clickbait ``c ~ U(0, 1)``. A user has a net positive exposure ``x``, which is not observed,
and a satisfaction ``s = sigmoid(sensitivity * x)``; at arrival ``x ~ (U(0, 1) - 1/2) / (1 - 0.7)``. There is nothing to
choose: the user consumes the first document of a slate, with engagement ``e``, the reward, and a change of exposure,

    log e ~ N(s (5 c + 4 (1 - c)), 1),        x <- 0.7 x - 2 (c - 1/2) + N(0, 0.05^2),

where ``s`` is that of before. After 60 slates the user leaves. There are new candidates at every step.

At the sensitivity of the original, 0.01, nothing is gained by looking ahead: clickbait is always best. From about 0.07
on a policy that shows the least clickbait beats one that shows the most; the environment
``"long_term_satisfaction_hard"`` is this one at 0.2.

What the original does otherwise, with ``faithful=True``:

* Observed engagement is cut at 100, while the reward is not. The default shows what is rewarded, as ``log(1 + e)``.

The documentation of the original writes the change of exposure as ``+2 (c - 1/2)``, with which clickbait would please.
Its code, and what it says in words, have it the other way round, and so does this in either setting;
``clickbait_pleases=True`` is the formula as it is written. The original also draws the same documents whatever seed it
is given, which has no place here.

References:
  Ie et al., "RecSim: a configurable simulation platform for recommender systems", arXiv 1909.04847, 2019, and its
  ``long_term_satisfaction.py``.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from recjax.envs.base import Environment, Oracle, Transition, register
from recjax.envs.sims.documents import normal
from recjax.response import CLICK, Response, Signal
from recjax.types import Array, Candidates, Feature, Items, Observation, PyTree, Revealed, Spec

MEMORY, EXPOSURE_GAIN = 0.7, 2.0
LOG_CHOC, LOG_KALE, LOG_STD = 5.0, 4.0, 1.0
OBSERVED_AT_MOST, HARD = 100.0, 0.2
GRADES = 10
"""Items of the catalogue: documents of about the same clickbait."""
EXPOSURES, LARGEST_EXPOSURE, QUANTILES = 129, 4.0, 64
"""The grid of a plan: exposures stay within ``1 / (1 - 0.7)`` but for noise, and clickbait is uniform."""

ENGAGEMENT = Signal("engagement", "Engagement with the consumed document, such as seconds watched; 0 of others")


@struct.dataclass
class Member:
    """The state of one user.

    Attributes:
      exposure: ``f32[]`` net positive exposure.
      consumed: ``f32[]`` what the consumed documents have made of an exposure of 0 at arrival, noise aside.
      left: ``i32[]`` slates until the user leaves.
      clickbait: ``f32[M]`` of the candidates of this step.
    """

    exposure: Array
    consumed: Array
    left: Array
    clickbait: Array


@struct.dataclass
class Params:
    """What all users share.

    Attributes:
      sensitivity: ``f32[]`` how much exposure moves satisfaction.
      noise: ``f32[]`` standard deviation of changes of exposure.
      gain: ``f32[]`` by how much the exposure grows for a document that is nothing but clickbait, times 2.
      clickbait: ``f32[M]`` of the candidates of every step, or None where they are drawn anew.
    """

    sensitivity: Array
    noise: Array
    gain: Array
    clickbait: Array | None


class Options(NamedTuple):
    """What shapes an environment beside its parameters."""

    spec: Spec
    steps: int
    exposure: bool
    faithful: bool


@register("long_term_satisfaction")
def long_term_satisfaction(
    *,
    sensitivity: float = 0.01,
    slate_size: int = 1,
    num_candidates: int = 5,
    steps: int = 60,
    noise: float = 0.05,
    exposure: bool = False,
    clickbait: tuple[float, ...] | None = None,
    clickbait_pleases: bool = False,
    faithful: bool = False,
) -> Environment:
    """RecSim's long-term satisfaction; see the module for its rules and what ``faithful`` changes.

    Items are ten grades of clickbait, slates positions in the candidates. ``Observation.candidates.features`` is the
    clickbait of each, ``f32[M, 1]``, and ``Observation.context`` the engagement with the last slate, ``f32[1]``, 0 at
    arrival; the history is empty. The reward of the original is ``"engagement=1"``.

    Args:
      sensitivity: how much exposure moves satisfaction; 0.2 makes the trade-off a hard one.
      slate_size: slots of a slate, of which only the first shown document counts.
      num_candidates: documents of a step.
      steps: slates until a user leaves.
      noise: standard deviation of changes of exposure.
      exposure: whether the context ends with what can be worked out from what was shown: the exposure, but for that at
        arrival and noise, and the share of the session that is left. Agents of the original do not see it.
      clickbait: of candidates that are the same at every step, one for each; None for new ones.
      clickbait_pleases: whether clickbait adds to exposure, as the original's documentation says.
      faithful: whether to repeat the original's quirks.

    Raises:
      ValueError: an argument is out of range.

    >>> env = long_term_satisfaction(sensitivity=0.2)
    >>> observation, user = jax.jit(env.reset)(jax.random.key(1), env.params, None)
    >>> after = jax.jit(env.step)(jax.random.key(2), user, jnp.array([3]), env.params, None)
    >>> after.response["click"].tolist(), int(after.state.left)
    ([1.0], 59)
    """
    if clickbait is not None and not (len(clickbait) == num_candidates and all(0 <= c <= 1 for c in clickbait)):
        raise ValueError(f"clickbait is {clickbait}; it must be {num_candidates} numbers in [0, 1], one a candidate.")
    if not (steps >= 1 and noise >= 0):
        raise ValueError(f"steps is {steps} and noise {noise}; they must be at least 1 and 0.")
    spec = Spec(
        GRADES,
        slate_size,
        history_length=1,
        context_size=1 + 2 * exposure,
        num_candidates=num_candidates,
        candidate_size=1,
        signals=(CLICK, ENGAGEMENT),
    )
    gain = EXPOSURE_GAIN if clickbait_pleases else -EXPOSURE_GAIN
    always = None if clickbait is None else jnp.asarray(clickbait, jnp.float32)
    params = Params(jnp.float32(sensitivity), jnp.float32(noise), jnp.float32(gain), always)
    options = Options(spec, steps, exposure, faithful)
    worth = _plan(params, num_candidates, steps)
    return Environment(
        spec, params, _grades(), partial(_reset, options), partial(_step, options), oracles=_oracles(worth, slate_size)
    )


register("long_term_satisfaction_hard", partial(long_term_satisfaction, sensitivity=HARD))


def _grades() -> Items:
    middle = (jnp.arange(GRADES, dtype=jnp.float32) + 0.5) / GRADES
    return Items(
        popularity=jnp.ones(GRADES),
        is_new=jnp.zeros(GRADES, bool),
        features={"clickbait": Feature(middle[:, None], "numeric")},
    )


def _observe(options: Options, user: Member, engagement: Array) -> Observation:
    seen = jnp.minimum(engagement, OBSERVED_AT_MOST) if options.faithful else jnp.log1p(engagement)
    context = [seen, user.consumed, user.left / options.steps] if options.exposure else [seen]
    grade = jnp.minimum((user.clickbait * GRADES).astype(jnp.int32), GRADES - 1)
    return dataclasses.replace(
        options.spec.empty_observation(),
        context=jnp.stack(context),
        candidates=Candidates(grade, user.clickbait[:, None]),
    )


def _candidates(uniform: Array, params: Params) -> Array:
    return uniform if params.clickbait is None else params.clickbait


def _reset(options: Options, key: Array, params: Params, world: PyTree) -> tuple[Observation, Member]:
    del world
    uniform = jax.random.uniform(key, (1 + options.spec.num_candidates,))
    exposure = (uniform[0] - 0.5) / (1.0 - MEMORY)
    left = jnp.full((), options.steps, jnp.int32)
    user = Member(exposure, jnp.float32(0.0), left, _candidates(uniform[1:], params))
    return _observe(options, user, jnp.float32(0.0)), user


def _step(options: Options, key: Array, state: Member, slate: Array, params: Params, world: PyTree) -> Transition:
    del world
    uniform = jax.random.uniform(key, (2 + options.spec.num_candidates,))
    liking, drift = normal(uniform[:2])
    shown = (slate >= 0) & (slate < options.spec.num_candidates)
    first = jnp.argmax(shown)
    clickbait = state.clickbait[slate[first]]
    engagement = jnp.exp(_log_engagement(state.exposure, clickbait, params.sensitivity) + LOG_STD * liking)
    engagement = jnp.where(jnp.any(shown), engagement, 0.0)
    is_consumed = shown & (jnp.arange(shown.shape[0]) == first)
    change = jnp.where(jnp.any(shown), params.gain * (clickbait - 0.5), 0.0)
    user = Member(
        exposure=MEMORY * state.exposure + change + params.noise * drift,
        consumed=MEMORY * state.consumed + change,
        left=state.left - 1,
        clickbait=_candidates(uniform[2:], params),
    )
    response = Response(click=is_consumed.astype(jnp.float32), engagement=jnp.where(is_consumed, engagement, 0.0))
    info = {"satisfaction": jax.nn.sigmoid(params.sensitivity * user.exposure)}
    return Transition(_observe(options, user, engagement), user, response, user.left <= 0, jnp.array(False), info)


def _log_engagement(exposure: Array, clickbait: Array, sensitivity: Array) -> Array:
    return jax.nn.sigmoid(sensitivity * exposure) * (LOG_CHOC * clickbait + LOG_KALE * (1.0 - clickbait))


def _plan(params: Params, num_candidates: int, steps: int) -> Array:
    """What is still to come at best with ``1 .. steps`` slates left after the next, ``f32[steps, EXPOSURES]``.

    Row ``t``, column ``j``: before noise on the ``j``-th exposure of the grid, with ``t`` slates left. By dynamic
    programming in float64; the best of ``M`` new candidates is the largest of ``M`` uniform draws of a quantile of
    what documents are worth.
    """
    sensitivity, noise, gain = (float(x) for x in (params.sensitivity, params.noise, params.gain))
    grid = np.linspace(-LARGEST_EXPOSURE, LARGEST_EXPOSURE, EXPOSURES)
    if params.clickbait is None:
        clickbait = (np.arange(QUANTILES) + 0.5) / QUANTILES
        share = np.diff((np.arange(QUANTILES + 1) / QUANTILES) ** num_candidates)
    else:
        clickbait = np.asarray(params.clickbait, np.float64)
        share = np.arange(num_candidates) == num_candidates - 1
    satisfaction = 1.0 / (1.0 + np.exp(-sensitivity * grid))[:, None]
    now = np.exp(satisfaction * (LOG_KALE + (LOG_CHOC - LOG_KALE) * clickbait) + LOG_STD**2 / 2)
    after = MEMORY * grid[:, None] + gain * (clickbait - 0.5)
    nodes, weights = np.polynomial.hermite_e.hermegauss(5)
    rows = [np.zeros(EXPOSURES)]
    for _ in range(steps - 1):
        best = np.sort(now + np.interp(after, grid, rows[-1]), axis=1) @ share
        rows.append(np.interp(grid[:, None] + noise * nodes, grid, best) @ (weights / weights.sum()))
    return jnp.asarray(np.stack(rows), jnp.float32)


def _oracles(worth: Array, slate_size: int) -> dict[str, Oracle]:
    """Yardsticks; the plan is of the parameters with which the environment was made."""
    choose = partial(_choose, worth=worth, slate_size=slate_size)
    return {
        "myopic": Oracle(partial(choose, rule="now"), "the largest expected engagement of this step: most clickbait"),
        "kale": Oracle(partial(choose, rule="kale"), "always the least clickbait"),
        "look_ahead": Oracle(
            partial(choose, rule="plan"),
            "the optimum, by dynamic programming over exposure, slates left and candidates",
        ),
    }


def _choose(key: Array, users: Revealed, setting: None, *, worth: Array, slate_size: int, rule: str) -> Array:
    del key, setting
    user, params = users.state, users.params
    value = -user.clickbait
    if rule != "kale":
        value = jnp.exp(_log_engagement(user.exposure[:, None], user.clickbait, params.sensitivity) + LOG_STD**2 / 2)
    if rule == "plan":
        after = MEMORY * user.exposure[:, None] + params.gain * (user.clickbait - 0.5)
        value += _at_exposures(worth[user.left - 1], after)
    return jax.lax.top_k(value, slate_size)[1]


def _at_exposures(worth: Array, exposure: Array) -> Array:
    """``f32[B, M]``: rows of a plan ``f32[B, EXPOSURES]`` at exposures between those of the grid."""
    place = (exposure / LARGEST_EXPOSURE + 1.0) * ((EXPOSURES - 1) / 2)
    below = jnp.clip(place.astype(jnp.int32), 0, EXPOSURES - 2)
    share = jnp.clip(place - below, 0.0, 1.0)
    low, high = (jnp.take_along_axis(worth, below + i, axis=1) for i in (0, 1))
    return low + share * (high - low)
