"""How users of SARDINE arrive, answer, tire and change; :func:`recjax.envs.sardine` has the formulas."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from recjax.types import PAD_ID, Array, Behaviour, Observation

TOPICS = 10
LOG = 10
"""Clicks that a user can remember."""
WINDOW = 5
"""Steps for which a click is remembered, and for which a topic bores."""
TOPIC_SHARE = 0.4
"""Probability that a user likes a topic, among users who like three to five."""
ARRIVAL_DRAWS = 2 * TOPICS + 1
"""Uniform numbers that an arriving user takes."""

Boredom = Literal["user_car", "user_tloi"]


@dataclasses.dataclass(frozen=True)
class SardineSetting:
    """The numbers in which the settings of SARDINE differ; the defaults are those of "SlateTopK-Bored-v0".

    Attributes:
      num_items: items of the catalogue.
      slate_size: slots of a slate.
      episode_length: steps after which an episode is cut.
      offset: cosine at which an item is relevant with probability one half.
      slope: of the logit of relevance in the cosine; 100 is nearly a threshold.
      omega: share of a user's vector that a step with clicks leaves, in [0, 1].
      boredom_threshold: remembered clicks on a topic that bore; more than 10 never do.
      click_discount: probability of a click in a slot relative to the slot above it, in (0, 1].
      boredom: whether a topic that bores takes all interest with it ("user_car", churn and return) or its own
        ("user_tloi", temporary loss of interest).

    Raises:
      ValueError: a value is out of range.
    """

    num_items: int = 1000
    slate_size: int = 10
    episode_length: int = 100
    offset: float = 0.65
    slope: float = 100.0
    omega: float = 1.0
    boredom_threshold: int = 5
    click_discount: float = 0.85
    boredom: Boredom = "user_car"

    def __post_init__(self) -> None:
        for name, fine, wanted in (
            ("episode_length", self.episode_length >= 1, ">= 1"),
            ("slope", self.slope > 0, "> 0"),
            ("omega", 0 <= self.omega <= 1, "in [0, 1]"),
            ("boredom_threshold", self.boredom_threshold >= 1, ">= 1"),
            ("click_discount", 0 < self.click_discount <= 1, "in (0, 1]"),
            ("boredom", self.boredom in get_args(Boredom), f"one of {', '.join(get_args(Boredom))}"),
        ):
            if not fine:
                raise ValueError(f"SardineSetting.{name} is {getattr(self, name)!r}; it must be {wanted}.")


@struct.dataclass
class SardineItems:
    """What the dynamics know of the items. Policies see the main topics only, as a feature.

    Attributes:
      vectors: ``f32[N, 10]``.
      max_norm: ``f32[]`` largest norm of a vector.
      topics: ``i32[N]`` main topics.
    """

    vectors: Array
    max_norm: Array
    topics: Array


@struct.dataclass
class User:
    """The state of one user. Only ``observation`` is for policies.

    Attributes:
      observation: what was shown and clicked, and the remembered clicks of each topic.
      vector: ``f32[10]`` unit vector of what the user likes, boredom aside.
      log_topics: ``i32[LOG]`` main topics of the last clicks, oldest first, padded on the left with ``PAD_ID``.
      log_steps: ``i32[LOG]`` the steps of these clicks.
      bored_for: ``i32[10]`` steps for which each topic still bores, 0 where it does not.
      steps: ``i32[]`` slates seen, the random first one included.
    """

    observation: Observation
    vector: Array
    log_topics: Array
    log_steps: Array
    bored_for: Array
    steps: Array


def arrive(uniform: Array, observation: Observation) -> User:
    """A user who has seen nothing yet.

    In the original each topic is liked with probability :data:`TOPIC_SHARE`, and whoever likes fewer than three or more
    than five is drawn again. Given their number, all sets of topics are as likely, so here the number is drawn first.

    Args:
      uniform: ``f32[ARRIVAL_DRAWS]`` in [0, 1).
      observation: without history.
    """
    sizes = [math.comb(TOPICS, n) * TOPIC_SHARE**n * (1 - TOPIC_SHARE) ** (TOPICS - n) for n in (3, 4, 5)]
    larger = jnp.asarray(np.cumsum(sizes)[:2] / sum(sizes), jnp.float32)
    liked = 3 + jnp.sum(uniform[0] >= larger)
    order, strength = uniform[1 : TOPICS + 1], uniform[TOPICS + 1 :]
    rank = jnp.sum(order[:, None] > order[None, :], axis=1)
    vector = jnp.where(rank < liked, strength, 0.0)
    return User(
        observation=observation,
        vector=vector / jnp.linalg.norm(vector),
        log_topics=jnp.full(LOG, PAD_ID, jnp.int32),
        log_steps=jnp.zeros(LOG, jnp.int32),
        bored_for=jnp.zeros(TOPICS, jnp.int32),
        steps=jnp.zeros((), jnp.int32),
    )


def random_slate(uniform: Array, num_items: int, *, repeats: bool) -> Array:
    """Uniform items ``i32[K]`` from as many uniform numbers, distinct unless ``repeats``."""
    slots = uniform.shape[0]
    if repeats:
        return jnp.minimum(jnp.floor(uniform * num_items).astype(jnp.int32), num_items - 1)
    number = jnp.arange(slots)

    def draw(taken: Array, drawn: tuple[Array, Array]) -> tuple[Array, Array]:
        u, count = drawn
        free = jnp.minimum(jnp.floor(u * (num_items - count)).astype(jnp.int32), num_items - 1 - count)
        # The free item of this number: one further for every taken one, in ascending order, at or before it.
        item = free + jnp.sum(taken - number <= free, dtype=jnp.int32)
        return jnp.sort(taken.at[slots - 1].set(item)), item

    none = jnp.full(slots, num_items + slots, jnp.int32)
    return jax.lax.scan(draw, none, (uniform, number))[1]


def answer(
    uniform: Array, user: User, slate: Array, items: SardineItems, setting: SardineSetting, *, faithful: bool
) -> tuple[User, Array]:
    """One user answers one slate.

    Args:
      uniform: ``f32[K]`` in [0, 1).
      user: before the slate.
      slate: ``i32[K]`` items. A slot with an id outside the catalogue (``PAD_ID``) shows nothing.
      items: what the dynamics know of them.
      setting: numbers of the dynamics.
      faithful: whether influence is that of the original's code.

    Returns:
      The user afterwards, and which slots were clicked, ``bool[K]``.
    """
    shown = (slate >= 0) & (slate < items.topics.shape[0])
    vectors = items.vectors[slate]
    seen = setting.click_discount ** jnp.arange(slate.shape[0])
    click = shown & (uniform < seen * relevance(vectors @ interest(user, setting), items, setting))

    steps = user.steps + 1
    log_topics, log_steps = _push(
        (user.log_topics, user.log_steps), (items.topics[slate], jnp.full_like(slate, user.steps)), click
    )
    counts = remembered(log_topics, log_steps, steps)
    bored_for = jnp.maximum(user.bored_for - 1, 0)
    bored_for = jnp.where((bored_for == 0) & (counts >= setting.boredom_threshold), WINDOW, bored_for)

    behaviour = jnp.where(click, int(Behaviour.CLICK), int(Behaviour.IMPRESSION))
    history, behaviours = _push((user.observation.history, user.observation.behaviour), (slate, behaviour), shown)
    context = jnp.minimum(counts / setting.boredom_threshold, 1.0)
    after = User(
        observation=Observation(history=history, behaviour=behaviours, context=context),
        vector=_influenced(user.vector, vectors, click, setting.omega, faithful) if setting.omega < 1 else user.vector,
        log_topics=log_topics,
        log_steps=log_steps,
        bored_for=bored_for,
        steps=steps,
    )
    return after, click


def interest(user: User, setting: SardineSetting) -> Array:
    """``f32[10]``: the user's vector as boredom leaves it."""
    bored = user.bored_for > 0
    return jnp.where(jnp.any(bored) if setting.boredom == "user_car" else bored, 0.0, user.vector)


def relevance(products: Array, items: SardineItems, setting: SardineSetting) -> Array:
    """In [0, 1], of items whose vectors have these inner products with a user's interest."""
    return jax.nn.sigmoid((products / items.max_norm - setting.offset) * setting.slope)


def remembered(log_topics: Array, log_steps: Array, steps: Array) -> Array:
    """``i32[10]``: clicks on each topic that a user remembers after so many slates."""
    is_topic = log_topics[:, None] == jnp.arange(TOPICS)[None, :]
    return jnp.sum(is_topic & (log_steps >= steps - WINDOW)[:, None], axis=0, dtype=jnp.int32)


def _influenced(vector: Array, items: Array, click: Array, omega: float, faithful: bool) -> Array:
    """A user's vector after clicks on some of the items with vectors ``f32[K, 10]``."""
    clicks = jnp.sum(click)
    mean = click.astype(jnp.float32) @ items / jnp.maximum(clicks, 1)
    moved = omega * vector + (1.0 - omega) * (jnp.mean(mean) if faithful else mean)
    return jnp.where(clicks > 0, moved / jnp.linalg.norm(moved), vector)


def _push(rows: tuple[Array, ...], values: tuple[Array, ...], happened: Array) -> tuple[Array, ...]:
    """Each row ``[M]`` with those of its values ``[K]`` that ``happened`` at the end, in their order."""
    slots, count = happened.shape[0], jnp.cumsum(happened)
    order = jnp.minimum(jnp.sum(count[None, :] <= jnp.arange(slots)[:, None], axis=1), slots - 1)

    def push(row: Array, value: Array) -> Array:
        longer = jnp.concatenate([row, value[order].astype(row.dtype)])
        return jax.lax.dynamic_slice_in_dim(longer, count[-1], row.shape[0])

    return tuple(push(row, value) for row, value in zip(rows, values, strict=True))
