"""The user response model of KuaiSim: an attended history and the user against the item, one score a behaviour.

With embeddings of 32 numbers, layer norms LN and ``d = 64``:

* item: ``e_i = LN(W LN(embedding and features))``;
* history: ``LN(drop(e))`` beside a vector of what was done, ``2 d`` in all, through two causal blocks of four heads;
* state: the last position ``h`` beside ``LN(drop(W LN(user embedding and context)))``, ``3 d`` in all;
* score of behaviour ``k``: the mean over ``d`` of ``a_k * e_i``, where ``a_k = LN(MLP(state)_k)`` with one hidden layer
  of 128 units.

Behaviours are independent of each other. With ``double_sigmoid`` the logit is the sigmoid of the score, so that every
probability lies between .5 and .731, as in the original's training and whole-session simulator.

Where it differs from the original: features are added up before they are normed; the hidden layer has a layer norm in
the place of a batch norm, by which answers would depend on who else is served; the feed-forward layers have 128 units
in the place of 64; a history tells of the strongest behaviour alone; and a user without a history has a trained vector.

References:
  Zhao et al., "KuaiSim: A Comprehensive Simulator for Recommender Systems", NeurIPS 2023; its ``KRMBUserResponse.py``.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from recjax.envs.users.networks import UserNetwork
from recjax.nn import ItemTower, SelfAttentionEncoder
from recjax.types import PAD_ID, Array, Behaviour, Items, Observation


class KuaiSimNetwork(UserNetwork):
    """KuaiSim's user response model.

    Attributes:
      num_users: ``U``.
      num_items: ``N``.
      latent: width of embeddings.
      width: of encodings (``d``), a multiple of 2.
      hidden: units of the hidden layer.
      history_length: most events of a history.
      dropout: share that is dropped where a ``dropout`` key is given.
      double_sigmoid: whether the logit is the sigmoid of the score.
    """

    num_users: int
    num_items: int
    latent: int = 32
    width: int = 64
    hidden: int = 128
    history_length: int = 100
    dropout: float = 0.1
    double_sigmoid: bool = False

    def setup(self) -> None:
        """Declares the parameters."""
        self.item = ItemTower(self.num_items, self.latent)
        self.users = self.param("users", nn.initializers.normal(1.0), (self.num_users, self.latent))
        self.context = nn.Dense(self.latent, use_bias=False)
        self.item_norm, self.user_norm, self.norm, self.state_norm = (nn.LayerNorm() for _ in range(4))
        self.item_map, self.user_map = nn.Dense(self.width), nn.Dense(self.width)
        self.done = self.param("behaviour", nn.initializers.normal(0.1), (len(Behaviour), self.width))
        self.history = SelfAttentionEncoder(
            num_blocks=2, num_heads=4, max_length=self.history_length, positions="from_end", dropout=self.dropout,
            norm="post", expansion=1, activation="relu",
        )  # fmt: skip
        self.nothing = self.param("nothing", nn.initializers.normal(0.1), (2 * self.width,))
        self.layer, self.layer_norm = nn.Dense(self.hidden), nn.LayerNorm()
        self.output = nn.Dense(self.behaviours * self.width)
        self.drop = nn.Dropout(self.dropout)

    def __call__(self, user: Array, observation: Observation, shown: Array, items: Items) -> tuple[Array, Array]:
        """See :class:`UserNetwork`."""
        found = scores(self.attention(self.state(user, observation, items)), self.encode(shown, items))
        logits = jax.nn.sigmoid(found) if self.double_sigmoid else found
        return logits, jnp.zeros((self.behaviours, self.behaviours))

    def encode(self, ids: Array, items: Items) -> Array:
        """Encodings ``f32[..., d]`` of items ``i32[...]``."""
        return self.norm(self.item_map(self.item_norm(self.item(ids, items))))

    def state(self, user: Array, observation: Observation, items: Items) -> Array:
        """What users are like at this moment, ``f32[B, 3 d]``."""
        mask = observation.history != PAD_ID
        seen = self._dropped(self.encode(observation.history, items))
        events = jnp.concatenate([self.norm(seen), self.done[observation.behaviour]], axis=-1)
        past = jnp.where(mask.any(axis=-1)[:, None], self.history(events, mask), self.nothing)
        known = self.users[user]
        if observation.context is not None:
            known = known + self.context(observation.context)
        own = self.norm(self._dropped(self.user_map(self.user_norm(known))))
        return jnp.concatenate([past, own], axis=-1)

    def attention(self, state: Array) -> Array:
        """What users with states ``f32[B, 3 d]`` look for, ``f32[B, S, d]``."""
        found = self._dropped(nn.relu(self.layer_norm(self.layer(state))))
        return self.state_norm(self.output(found).reshape(len(state), self.behaviours, self.width))

    def _dropped(self, x: Array) -> Array:
        return self.drop(x, deterministic=not self.has_rng("dropout"))


def scores(attention: Array, encodings: Array) -> Array:
    """``f32[B, M, S]`` from what users look for ``f32[B, S, d]`` and items ``f32[B, M, d]``."""
    return jnp.einsum("bsd,bmd->bms", attention, encodings) / attention.shape[-1]
