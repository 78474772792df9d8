"""What could be reached with users in the style of KuaiSim, by somebody who knows the response model."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from recjax.envs.base import Oracle
from recjax.envs.sims.kuaisim_users import Params, Rules, User, attention_of
from recjax.envs.users.kuaisim_network import scores
from recjax.types import Array, PyTree, Revealed

PRICES = (0.0, 0.5, 1.0, 2.0, 4.0)


def slate_oracles(rules: Rules) -> dict[str, Oracle]:
    """The yardsticks of requests and sessions.

    Both fill a slate from its first slot with the item that adds most to the expected reward of the slate, less what
    its similarity costs itself and those chosen before; probabilities that fall to 0 are not looked at, so it is no
    exact optimum where similarity counts. ``look_ahead`` searches the price of similarity.
    """

    def choose(key: Array, users: Revealed, setting: PyTree) -> Array:
        del key
        price = 1.0 if setting is None else setting
        each = jax.vmap(_fill, in_axes=(0, None, None, None))
        return each(users.state, users.params, rules, price)

    return {
        "myopic": Oracle(choose, "the slate of the largest expected reward of this step, filled slot by slot"),
        "look_ahead": Oracle(
            choose,
            f"the same with another price of similarity, the best of {len(PRICES)}: a lower bound",
            jnp.asarray(PRICES),
        ),
    }


def _fill(user: User, params: Params, rules: Rules, price: Array | float) -> Array:
    """``i32[K]`` for one user."""
    encodings = rules.ask(params, "encode", jnp.arange(params.items.num_items), params.items)
    attention, _ = attention_of(user, params, rules)
    logits = scores(attention[None], encodings[None])[0]
    worth = jax.nn.sigmoid(jax.nn.sigmoid(logits) if rules.faithful else logits) @ params.weights
    unit = encodings / jnp.linalg.norm(encodings, axis=-1, keepdims=True)
    scale = 2.0 * price * rules.rho * (rules.level == "session") * jnp.sum(params.weights) / rules.slate_size
    scale = scale / rules.network.width if rules.faithful else scale

    def slot(worth: Array, _: None) -> tuple[Array, Array]:
        item = jnp.argmax(worth)
        return (worth - scale * unit @ unit[item]).at[item].set(-jnp.inf), item.astype(jnp.int32)

    return jax.lax.scan(slot, worth, None, length=rules.slate_size)[1]


def vector_oracles(weights: Array) -> dict[str, Oracle]:
    """The yardsticks of several sessions, vectors that are the same for everybody.

    ``myopic`` ranks by the expected reward of a slate. ``look_ahead`` is the best of that, single behaviours, and their
    negatives. Policies that look at users may be better.
    """
    own = np.asarray(weights, np.float32)
    single = np.eye(len(own), dtype=np.float32)

    def choose(key: Array, users: Revealed, setting: PyTree) -> Array:
        del key
        vector = users.params.weights if setting is None else setting
        return jnp.broadcast_to(vector, (users.state.user.shape[0], len(own)))

    family = np.concatenate([own[None], single, -single])
    return {
        "myopic": Oracle(choose, "the items with the largest expected reward of this slate"),
        "look_ahead": Oracle(choose, f"the best of {len(family)} constant vectors: a lower bound", jnp.asarray(family)),
    }
