"""Videos: watched for a while or to the end; topics satiate, and who is displeased closes the app.

Choice, boredom, bait, slow satisfaction and leaving are those of :mod:`recjax.envs.choice.dynamics`. With the
attraction ``a_j`` of a video, bait aside, and its length ``d_j`` in seconds:

* lengths: ``log d_j`` is normal with mean ``log median_length`` and standard deviation ``length_spread``;
* a video that is chosen is watched to its end with probability
  ``y_j = sigmoid(a_j - length_weight * log(d_j / median_length))``, else up to a uniform share of it, so
  ``d_j (1 + y_j) / 2`` on average;
* satisfaction with it is ``y_j``.

So a long video with a promising picture earns the most of this minute, and wears out the viewer's patience.

All numbers are chosen for plausibility: a median of four minutes and a long tail as on open video platforms; bait
of one logit, since pictures and titles are made to be clicked.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct

from recjax.envs.base import Environment, Transition, register
from recjax.envs.choice import dynamics
from recjax.envs.choice.oracles import STILL, LookAhead, appraisal, wary
from recjax.envs.choice.parameters import INF, declare
from recjax.envs.choice.planning import Appraisal, grid, yardsticks
from recjax.envs.choice.response_model import ResponseModel, as_arrays
from recjax.envs.presets.parts import standardised
from recjax.envs.sims import population
from recjax.envs.sims.synthetic import synthetic
from recjax.response import CLICK, SATISFACTION, WATCH_TIME, Response, Signal
from recjax.types import Array, Behaviour, PyTree

COMPLETION = Signal("completion", "1 where a video was watched to its end", is_flag=True)
VIEWERS = ResponseModel(
    no_click_logit=2.0, bait=1.0, boredom_weight=3.0, satisfaction_rate=0.3, leave_base=0.005, leave_slope=0.1
)
"""How these users respond unless told otherwise: they choose and judge sooner than the default, and leave sooner."""

SATISFACTION_WORTH = (0.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0)
"""Prices of slow satisfaction that are searched, in seconds."""

BOREDOM_WEIGHT = (1.0, 1.5)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Videos:
    """The declared parameters of videos."""

    median_length: float = declare(240.0, 1e-3, INF, "Median length of a video in seconds.")
    length_spread: float = declare(
        0.8, 0.0, INF, "Standard deviation of the logarithm of lengths. At 0.8 one video in nine is thrice the median."
    )
    length_weight: float = declare(
        1.0, 0.0, INF, "Logits of watching to the end that are lost where the logarithm of the length rises by 1."
    )


@struct.dataclass
class Params(population.Params):
    """What all viewers share; in addition the declared videos, and ``f32[N]`` their lengths in seconds."""

    videos: Videos
    length: Array


@register("video")
def video(
    *,
    num_items: int = 1000,
    slate_size: int = 5,
    history_length: int = 20,
    videos: Videos | None = None,
    response_model: ResponseModel | None = None,
    key: Array | None = None,
) -> Environment:
    """Viewers of a video platform; the reward that it is made for is "watch_time".

    Items have the features "genres" and "length" (its logarithm, standardised). Histories hold what was clicked, as
    PLAY where it was watched to its end; those of arriving viewers are drawn as in :func:`recjax.envs.synthetic`.

    Args:
      num_items: videos in the catalogue.
      slate_size: slots of a slate.
      history_length: positions of a history.
      videos: lengths; the defaults of ``Videos`` if None.
      response_model: how viewers choose, tire and leave; ``conversion_rate`` is not read. :data:`VIEWERS` if None.
      key: PRNG key of the catalogue; ``jax.random.key(0)`` by default.

    Raises:
      ValueError: an argument is out of range.

    >>> env = video(num_items=100, slate_size=3)
    >>> [f"{signal.name} ({signal.unit})" for signal in env.spec.signals]
    ['click (1)', 'watch_time (s)', 'completion (1)', 'satisfaction (1)']
    """
    key = jax.random.key(0) if key is None else key
    videos = as_arrays(Videos() if videos is None else videos)
    base = synthetic(
        num_items=num_items,
        slate_size=slate_size,
        history_length=history_length,
        response_model=VIEWERS if response_model is None else response_model,
        key=key,
    )
    deviation = videos.length_spread * jax.random.normal(jax.random.fold_in(key, 1), (num_items,))
    length = videos.median_length * jnp.exp(deviation)
    return base._replace(
        spec=dataclasses.replace(base.spec, signals=(CLICK, WATCH_TIME, COMPLETION, SATISFACTION)),
        params=Params(**vars(base.params), videos=videos, length=length),
        items=base.items.with_features(length=standardised(jnp.log(length))),
        step=_step,
        oracles=yardsticks(
            _appraise,
            slate_size,
            STILL,
            grid(LookAhead, satisfaction_worth=SATISFACTION_WORTH, boredom_weight=BOREDOM_WEIGHT),
            "where satisfaction has a price and boredom more weight",
        ),
    )


def _pleasure(attraction: Array, items: Array, params: Params) -> Array:
    """The chance that each of these is watched to its end."""
    excess = jnp.log(params.length[items] / params.videos.median_length)
    return jax.nn.sigmoid(attraction - params.videos.length_weight * excess)


def _step(key: Array, state: dynamics.User, slate: Array, params: Params, world: PyTree) -> Transition:
    del world
    model, factors = params.response_model, params.factors
    choice_u, watch_u, leave_u = jax.random.uniform(key, (3,))
    attraction = dynamics.attraction(state, slate, model, factors)
    appeal = attraction + model.bait * factors.bait[slate]
    choice = dynamics.choose(choice_u, appeal, slate, factors.bias.shape[0], model)

    pleasure = jnp.where(choice.click, _pleasure(attraction, slate, params), 0.0)
    completed = choice.click & (watch_u < pleasure)
    # Above the chance of staying to the end, the same number is uniform once more: the share that is watched.
    share = jnp.where(completed, 1.0, (watch_u - pleasure) / jnp.maximum(1.0 - pleasure, jnp.finfo(jnp.float32).tiny))
    response = Response(
        click=choice.click.astype(jnp.float32),
        watch_time=jnp.where(choice.click, share * params.length[slate], 0.0),
        completion=completed.astype(jnp.float32),
        satisfaction=pleasure,
    )
    after = dynamics.settle(state, choice, factors.topics[choice.item], jnp.sum(pleasure), model)
    behaviour = jnp.where(jnp.any(completed), int(Behaviour.PLAY), int(Behaviour.CLICK))
    observation = dynamics.append(state.observation, choice.item, behaviour, choice.happened)
    after = dataclasses.replace(after, observation=observation)
    terminated, truncated = dynamics.ends(leave_u, after, model)
    return Transition(observation, after, response, terminated, truncated, {"user_satisfaction": after.satisfaction})


def _appraise(user: dynamics.User, params: Params, world: PyTree, plan: LookAhead) -> Appraisal:
    del world
    model, factors = wary(params.response_model, plan), params.factors
    items = jnp.arange(factors.bias.shape[0])
    attraction = dynamics.attraction(user, items, model, factors)
    pleasure = _pleasure(attraction, items, params)
    watch_time = params.length * (1.0 + pleasure) / 2.0
    return appraisal(user, attraction + model.bait * factors.bait, watch_time, pleasure, model, plan)
