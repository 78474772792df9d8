"""What could be reached with users of SARDINE, by somebody who knows all of their state."""

from __future__ import annotations

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from recjax.catalogue import top_k
from recjax.envs.base import Oracle
from recjax.envs.sims.sardine_users import (
    LOG,
    TOPICS,
    SardineItems,
    SardineSetting,
    User,
    interest,
    relevance,
    remembered,
)
from recjax.types import PAD_ID, Array, Revealed

PRICE = (0.5, 1.0, 2.0, 4.0, 16.0)
FORGOTTEN = (0, 1, 2, 3, 4)


@struct.dataclass
class Planned:
    """A policy that looks ahead.

    Attributes:
      price: ``f32[]`` of a topic that begins to bore, in clicks.
      forgotten: ``i32[]`` how many of a full log's oldest clicks count as pushed out by those that are to come.
    """

    price: Array
    forgotten: Array


def oracles(setting: SardineSetting, topics: np.ndarray) -> dict[str, Oracle]:
    """The yardsticks of SARDINE.

    * ``myopic`` shows the most relevant items, best first: the "short-term oracle" of the original. Where clicks
      neither bore nor change a user, no policy is better.
    * ``look_ahead`` fills a slate from its first slot with the item whose click, less a price times the probability
      that this click makes its topic bore, is worth most. Only where there is boredom.

    Args:
      setting: numbers of the dynamics.
      topics: ``i64[N]`` main topics.
    """
    found = {"myopic": Oracle(partial(_myopic, rules=setting), "the most relevant items first, by true interest")}
    if setting.boredom_threshold > LOG:
        return found
    pairs = np.array(list(itertools.product(PRICE, FORGOTTEN)))
    family = Planned(jnp.asarray(pairs[:, 0], jnp.float32), jnp.asarray(pairs[:, 1], jnp.int32))
    found["look_ahead"] = Oracle(
        partial(_look_ahead, rules=setting, members=_members(topics)),
        "the same, where it has a price that a topic may bore, as the user's state tells: the best of"
        f" {len(pairs)} pairs of a price and a length of memory, so a lower bound",
        family,
    )
    return found


def _members(topics: np.ndarray) -> np.ndarray:
    """``i32[10, M]``: the items of each main topic, padded with ``PAD_ID``."""
    members = np.full((TOPICS, np.bincount(topics, minlength=TOPICS).max()), PAD_ID, np.int32)
    for topic in range(TOPICS):
        own = np.flatnonzero(topics == topic)
        members[topic, : len(own)] = own
    return members


def _myopic(key: Array, users: Revealed, setting: None, *, rules: SardineSetting) -> Array:
    queries = jax.vmap(partial(interest, setting=rules))(users.state)
    return top_k(queries, users.params.vectors, rules.slate_size)[1]


def _look_ahead(key: Array, users: Revealed, setting: Planned, *, rules: SardineSetting, members: np.ndarray) -> Array:
    plan = partial(_plan, plan=setting, items=users.params, rules=rules, members=jnp.asarray(members))
    return jax.vmap(plan)(users.state)


def _plan(user: User, plan: Planned, items: SardineItems, rules: SardineSetting, members: Array) -> Array:
    """The slate ``i32[K]`` of one user."""
    products = jnp.where(members >= 0, items.vectors[members] @ interest(user, rules), -jnp.inf)
    best, place = jax.lax.top_k(products, min(rules.slate_size, members.shape[1]))
    best_items = jnp.take_along_axis(members, place, axis=1)
    values = jnp.where(best_items >= 0, relevance(best, items, rules), -jnp.inf)
    # One column more, for topics of which every item is shown already.
    values = jnp.pad(values, ((0, 0), (0, 1)), constant_values=-jnp.inf)

    log = jnp.where(jnp.arange(LOG) >= plan.forgotten, user.log_topics, PAD_ID)
    counts = remembered(log, user.log_steps, user.steps + 1)
    threshold = rules.boredom_threshold
    probability = jax.nn.one_hot(jnp.minimum(counts, threshold), threshold + 1)

    def fill(carry: tuple[Array, Array], seen: Array) -> tuple[tuple[Array, Array], Array]:
        """The item of the next slot, given the number of clicks of each topic, as probabilities, and of items shown."""
        probability, shown = carry
        value = jnp.take_along_axis(values, shown[:, None], axis=1)[:, 0]
        worth = jnp.where(value >= 0, value * (1.0 - plan.price * probability[:, threshold - 1]), -jnp.inf)
        topic = jnp.argmax(worth)
        click = seen * value[topic]
        of_topic = probability[topic]
        of_topic = (1.0 - click) * of_topic + click * jnp.pad(of_topic[:-1], (1, 0))
        carry = probability.at[topic].set(of_topic), shown.at[topic].add(1)
        return carry, best_items[topic, shown[topic]]

    slots = rules.click_discount ** jnp.arange(rules.slate_size, dtype=jnp.float32)
    return jax.lax.scan(fill, (probability, jnp.zeros(TOPICS, jnp.int32)), slots)[1]
