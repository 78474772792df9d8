"""Networks that say how probable it is that users do this or that with items that they are shown."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from recjax.nn import ItemTower, UserTower
from recjax.nn.attention import dropout
from recjax.types import Array, Behaviour, Items, Observation

SMALL = nn.initializers.normal(0.1)


class UserNetwork(nn.Module):
    """Base of networks of what users do with items: logits as :mod:`recjax.envs.users.joint` takes them.

    Attributes:
      behaviours: how many there are (``S``).
    """

    behaviours: int

    def __call__(self, user: Array, observation: Observation, shown: Array, items: Items) -> tuple[Array, Array]:
        """Logits of behaviours towards items, and strengths of behaviours upon each other.

        Args:
          user: ``i32[B]`` rows of users in the log.
          observation: of the users, leaves ``[B, ...]``.
          shown: ``i32[B, M]`` items, all of them in ``0 .. N - 1``.
          items: the features of all items.

        Returns:
          ``(f32[B, M, S], f32[S, S])``.
        """
        raise NotImplementedError

    def strengths(self) -> Array:
        """The parameter ``f32[S, S]``; to be read in a compact method."""
        zeros = nn.initializers.zeros
        return jnp.asarray(self.param("strengths", zeros, (self.behaviours, self.behaviours)))


class FactorNetwork(UserNetwork):
    """Matrix factorisation over ids: ``<p_u, q_is> + b_us + c_is`` for behaviour ``s``.

    What users do next has nothing to do with what they did before. Without factors this is the baseline of item and
    user biases.

    Attributes:
      num_users: ``U``.
      num_items: ``N``.
      factors: width of the factors.
      dropout: share of a user's factors that is dropped in training, where a ``dropout`` key is given.
    """

    num_users: int
    num_items: int
    factors: int = 16
    dropout: float = 0.5

    @nn.compact
    def __call__(self, user: Array, observation: Observation, shown: Array, items: Items) -> tuple[Array, Array]:
        """See :class:`UserNetwork`."""
        del observation, items
        width = self.behaviours
        of_user = self.param("user_bias", nn.initializers.zeros, (self.num_users, width))
        of_item = self.param("item_bias", nn.initializers.zeros, (self.num_items, width))
        both = of_user[user] + self.param("bias", nn.initializers.zeros, (width,))[None]
        logits = both[:, None] + of_item[shown]
        if self.factors:
            users = self.param("users", SMALL, (self.num_users, self.factors))
            vectors = self.param("items", SMALL, (self.num_items, width, self.factors))
            known = dropout(self, self.dropout, users[user])
            logits = logits + jnp.einsum("bf,bmsf->bms", known, vectors[shown])
        return logits, self.strengths()


class HistoryNetwork(UserNetwork):
    """A layer over the vector of a user's history, the item's and their product, and a bias of each item.

    The vectors of a history are those of its items, number by number times a vector of what was done: an item that was
    shown in vain counts otherwise than one that was taken, also for encoders that only add. Users are known by what
    they did, and by the context; ids play no part, so it holds for users of another log.

    Attributes:
      item: vectors of items, by ids and features.
      user: vectors of users, of the same width; its encoder may be any of ``recjax.nn.history_encoders``.
      hidden: width of the layer.
    """

    item: ItemTower
    user: UserTower
    hidden: int = 64

    @nn.compact
    def __call__(self, user: Array, observation: Observation, shown: Array, items: Items) -> tuple[Array, Array]:
        """See :class:`UserNetwork`."""
        del user
        history, vectors = self.item.together((observation.history, shown), items)
        weights = self.param("behaviour", nn.initializers.ones, (len(Behaviour), self.item.dim))
        history = weights[observation.behaviour] * history / self.item.initial_norm
        of_user = self.user(observation, history)[:, None]
        both = jnp.concatenate([jnp.broadcast_to(of_user, vectors.shape), vectors, of_user * vectors], axis=-1)
        of_item = self.param("item_bias", nn.initializers.zeros, (self.item.num_items, self.behaviours))
        logits = nn.Dense(self.behaviours, name="output")(nn.relu(nn.Dense(self.hidden, name="layer")(both)))
        return logits + of_item[shown], self.strengths()
