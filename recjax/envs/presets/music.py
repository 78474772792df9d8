"""Music: one track after the other, played or skipped; favourites are repeated until they wear out; listeners return.

A step is the next track, which begins to play by itself. Taste, boredom of genres, slow satisfaction and leaving are
those of :mod:`recjax.envs.choice.dynamics`. With the history of the listener, ``n`` tracks ago at age ``n``:

* familiarity ``f_j = sum_n familiarity_decay^n [track j was played at age n]``;
* fatigue of the artist ``c_j = (1 - memory_decay) sum_n memory_decay^n [the track at age n is of the artist of j]``;
* attraction ``a_j = l_j - boredom_weight * b_j - artist_weight * c_j + familiarity_gain * f_j - wear * f_j^2``, so that
  liking first rises with repetition and then falls, most at ``f = familiarity_gain / (2 wear)``;
* a track is played to its end with probability ``y_j = sigmoid(a_j)``, else skipped;
* a played track moves slow satisfaction to ``s + satisfaction_rate * (y_j (1 - comfort * min(f_j, 1)) - s)``: what is
  known well is played on, and gives less reason to come back than a discovery; a skip leaves
  ``s (1 - no_click_decay)``;
* a session ends with probability ``leave_base + leave_slope * (1 - s)``; the listener then comes back for another
  with probability ``return_rate * s``, with no genre on the mind, or is gone for good.

That liking over repetitions is an inverted U goes back to Berlyne, "Novelty, complexity, and hedonic value", 1970; that
listeners of diverse music stay longer was seen by Anderson et al., "Algorithmic effects on the diversity of
consumption on Spotify", WWW 2020. All numbers are chosen for plausibility.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct

from recjax.envs.base import Environment, Transition, register
from recjax.envs.choice import dynamics
from recjax.envs.choice.oracles import STILL, LookAhead, wary
from recjax.envs.choice.parameters import INF, declare
from recjax.envs.choice.planning import Appraisal, grid, yardsticks
from recjax.envs.choice.response_model import ResponseModel, as_arrays
from recjax.envs.sims import population
from recjax.envs.sims.synthetic import synthetic
from recjax.response import SATISFACTION, Response, Signal
from recjax.types import PAD_ID, Array, Behaviour, Feature, Items, Observation, PyTree

PLAYED = Signal("click", "1 where the track was played to its end", is_flag=True)
SKIP = Signal("skip", "1 where the track was skipped", is_flag=True)
LISTENERS = ResponseModel(
    boredom_weight=3.0, satisfaction_rate=0.2, no_click_decay=0.1, leave_base=0.03, leave_slope=0.1
)
"""How these users respond unless told otherwise: a skip annoys more than a slate without a click."""

LONG = 10.0
"""Tracks after which a session looks long to a policy."""

SATISFACTION_WORTH = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
BOREDOM_WEIGHT = (1.0, 1.5)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Listening:
    """The declared parameters of listening."""

    familiarity_decay: float = declare(
        0.9, 0.0, 1.0, "Share of the familiarity with a track that is left after one other. At 0.9 half goes in seven."
    )
    familiarity_gain: float = declare(1.5, 0.0, INF, "Logits of attraction that the first bit of familiarity adds.")
    wear: float = declare(0.75, 0.0, INF, "Logits of attraction lost per squared familiarity.")
    artist_weight: float = declare(
        2.0, 0.0, INF, "Logits of attraction lost where all recent tracks are of one artist."
    )
    comfort: float = declare(
        0.2, 0.0, 1.0, "Share of the satisfaction with a track that is missing where it is wholly familiar."
    )
    return_rate: float = declare(0.9, 0.0, 1.0, "Probability that a fully satisfied listener comes back.")


@struct.dataclass
class Params(population.Params):
    """What all listeners share; in addition the declared listening, and ``i32[N]`` the artist of each track."""

    listening: Listening
    artist: Array


@struct.dataclass
class Listener:
    """One listener: the user, and ``i32[]`` the tracks of this session so far."""

    user: dynamics.User
    position: Array


@register("music")
def music(
    *,
    num_items: int = 1000,
    tracks_per_artist: int = 10,
    history_length: int = 30,
    listening: Listening | None = None,
    response_model: ResponseModel | None = None,
    key: Array | None = None,
) -> Environment:
    """Listeners to a radio of one track at a time; the reward that it is made for is "click", a play to the end.

    Items have the features "genres" and "artist" (an id). Histories hold played tracks as PLAY, repeats too, and
    skipped ones as VIEW; those of arriving listeners are drawn as in :func:`recjax.envs.synthetic`. The context is the
    number of tracks of the session, over 10 and at most 1. Policies that never show an item of the history cannot
    repeat a favourite.

    Args:
      num_items: tracks in the catalogue.
      tracks_per_artist: tracks of one artist, of one main genre.
      history_length: positions of a history, and how far listeners remember.
      listening: how tracks gain and wear out; the defaults of ``Listening`` if None.
      response_model: how listeners tire and leave; what it says of choice, bait and conversions is not read.
        :data:`LISTENERS` if None.
      key: PRNG key of the catalogue; ``jax.random.key(0)`` by default.

    Raises:
      ValueError: an argument is out of range.

    >>> env = music(num_items=100)
    >>> env.spec.slate_size, [signal.name for signal in env.spec.signals]
    (1, ['click', 'skip', 'satisfaction'])
    """
    if tracks_per_artist < 1:
        raise ValueError(f"music got tracks_per_artist={tracks_per_artist}; an artist has at least one track.")
    base = synthetic(
        num_items=num_items,
        slate_size=1,
        history_length=history_length,
        response_model=LISTENERS if response_model is None else response_model,
        key=key,
    )
    artist = _artists(base.items, tracks_per_artist)
    words = Feature(artist[:, None], "words", size=-(-num_items // tracks_per_artist))
    declared = as_arrays(Listening() if listening is None else listening)

    def reset(key: Array, params: Params, world: PyTree) -> tuple[Observation, Listener]:
        observation, user = base.reset(key, params, world)
        played = jnp.where(observation.history == PAD_ID, PAD_ID, int(Behaviour.PLAY)).astype(jnp.int32)
        observation = dataclasses.replace(observation, behaviour=played, context=jnp.zeros(1))
        return observation, Listener(dataclasses.replace(user, observation=observation), jnp.zeros((), jnp.int32))

    return Environment(
        spec=dataclasses.replace(base.spec, context_size=1, signals=(PLAYED, SKIP, SATISFACTION)),
        params=Params(**vars(base.params), listening=declared, artist=artist),
        items=base.items.with_features(artist=words),
        reset=reset,
        step=_step,
        oracles=yardsticks(
            _appraise,
            1,
            STILL,
            grid(LookAhead, satisfaction_worth=SATISFACTION_WORTH, boredom_weight=BOREDOM_WEIGHT),
            "where satisfaction has a price and boredom more weight",
        ),
    )


def _artists(items: Items, tracks: int) -> Array:
    """Artists ``i32[N]`` of so many tracks each, of neighbouring genres."""
    assert items.content is not None
    order = jnp.argsort(jnp.argmax(items.content, axis=1), stable=True)
    return jnp.zeros(items.num_items, jnp.int32).at[order].set(jnp.arange(items.num_items, dtype=jnp.int32) // tracks)


def _decayed(same: Array, decay: Array | float) -> Array:
    """``sum_n decay^n same_n`` over the last axis, whose last entry has age 0."""
    return same.astype(jnp.float32) @ decay ** jnp.arange(same.shape[-1])[::-1]


def _familiarity(tracks: Array, observation: Observation, params: Params) -> Array:
    """``f32[K]``."""
    played = (tracks[:, None] == observation.history[None]) & (observation.behaviour[None] == int(Behaviour.PLAY))
    return _decayed(played, params.listening.familiarity_decay)


def _attraction(
    user: dynamics.User, tracks: Array, familiarity: Array, params: Params, response_model: ResponseModel
) -> Array:
    """``f32[K]``: the logits of playing each track to its end."""
    own, decay = params.listening, response_model.memory_decay
    history = user.observation.history
    same = (params.artist[tracks][:, None] == params.artist[history][None]) & (history != PAD_ID)[None]
    fatigue = (1.0 - decay) * _decayed(same, decay)
    gain = own.familiarity_gain * familiarity - own.wear * familiarity**2
    return dynamics.attraction(user, tracks, response_model, params.factors) - own.artist_weight * fatigue + gain


def _step(key: Array, state: Listener, slate: Array, params: Params, world: PyTree) -> Transition:
    del world
    user, own, model, factors = state.user, params.listening, params.response_model, params.factors
    play_u, end_u, return_u = jax.random.uniform(key, (3,))
    shown = (slate >= 0) & (slate < factors.bias.shape[0])
    familiarity = _familiarity(slate, user.observation, params)
    liked = jax.nn.sigmoid(_attraction(user, slate, familiarity, params, model))
    played = shown & (play_u < liked)
    pleasure = jnp.where(played, liked * (1.0 - own.comfort * jnp.minimum(familiarity, 1.0)), 0.0)
    skipped = shown & ~played
    response = Response(click=played.astype(jnp.float32), skip=skipped.astype(jnp.float32), satisfaction=pleasure)

    choice = dynamics.Choice(played, played[0], jnp.where(played[0], slate[0], PAD_ID), shown)
    after = dynamics.settle(user, choice, factors.topics[choice.item], pleasure[0], model)
    pauses = end_u < dynamics.leave_probability(after.satisfaction, model)
    terminated = pauses & (return_u >= own.return_rate * after.satisfaction)
    position = jnp.where(pauses, 0, state.position + 1)
    behaviour = jnp.where(played[0], int(Behaviour.PLAY), int(Behaviour.VIEW))
    observation = dynamics.append(user.observation, slate[0], behaviour, shown[0])
    observation = dataclasses.replace(observation, context=jnp.minimum(position[None] / LONG, 1.0))
    memory = jnp.where(pauses, 0.0, after.memory)
    truncated = (after.steps >= model.max_steps) & ~terminated
    info = {"user_satisfaction": after.satisfaction, "session_ends": pauses.astype(jnp.float32)}
    after = dataclasses.replace(after, observation=observation, memory=memory)
    return Transition(observation, Listener(after, position), response, terminated, truncated, info)


def _appraise(listener: Listener, params: Params, world: PyTree, plan: LookAhead) -> Appraisal:
    del world
    user, own, model = listener.user, params.listening, wary(params.response_model, plan)
    tracks = jnp.arange(params.artist.shape[0])
    familiarity = _familiarity(tracks, user.observation, params)
    liked = jax.nn.sigmoid(_attraction(user, tracks, familiarity, params, model))
    pleasure = liked * (1.0 - own.comfort * jnp.minimum(familiarity, 1.0))
    played = 1.0 + plan.satisfaction_worth * model.satisfaction_rate * (pleasure - user.satisfaction)
    skipped = -plan.satisfaction_worth * model.no_click_decay * user.satisfaction
    values = liked * played + (1.0 - liked) * skipped
    # Nothing is chosen: the track plays by itself, so every one has the same odds.
    blank = jnp.zeros((), jnp.float32)
    return Appraisal(jnp.zeros_like(values), values, blank, jnp.full(1, PAD_ID, jnp.int32))
