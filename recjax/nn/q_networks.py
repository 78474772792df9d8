"""Q-networks: the value of every item, or of chosen ones, for a batch of users."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import lax

from recjax.catalogue import BLOCK_SIZE, BlockScorer, Catalogue, ItemIndex, lookup, mean_score
from recjax.nn.contracts import ItemVectorNetwork, ScoringNetwork
from recjax.nn.noisy import NoisyDense
from recjax.nn.similarity import normalize
from recjax.nn.towers import Towers
from recjax.registry import Registry
from recjax.types import Array, Items, Observation

q_networks: Registry[Callable[..., Towers]] = Registry("Q-network")
"""Factories ``(*, item, user, **fields)`` of Q-networks, see :class:`recjax.nn.Towers`."""


INITIAL_SCALE = 0.1
"""Of the similarity in a value. Rewards of a slot are of the order of a tenth, and what a network says before it has
learned anything is unlearned the sooner, the smaller it is."""


class DotProduct(Towers, ScoringNetwork):
    """What the Q-networks by inner products share: the scale, the value of a state, and the queries.

    Attributes:
      noisy: whether a :class:`recjax.nn.NoisyDense` of the user's vector, at first noise alone, is added to it.
    """

    noisy: bool = False

    @property
    def is_noisy(self) -> bool:
        """See :class:`recjax.nn.ScoringNetwork`."""
        return self.noisy

    def setup(self) -> None:
        """Declares the parameters."""
        super().setup()
        if self.noisy:
            self.noise = NoisyDense(self.user.dim, use_bias=False, kernel_init=nn.initializers.zeros)
        self.scale = self.param("scale", nn.initializers.constant(INITIAL_SCALE), ())
        self.value = nn.Dense(1, kernel_init=nn.initializers.zeros)
        self.item_bias = self.param("item_bias", nn.initializers.zeros, (self.num_items, 1))

    def __call__(self, observation: Observation, items: Items) -> Array:
        """Values of every item, ``f32[B, N]``."""
        return self.queries(observation, items) @ self.item_index(items).vectors.T

    def queries(self, observation: Observation, items: Items) -> Array:
        """``f32[B, dim + 2]``, what the index of :meth:`catalogue` scores."""
        return self.query(self.user_vectors(observation, items))

    def user_vectors(self, observation: Observation, items: Items) -> Array:
        """Vectors of users, ``f32[B, dim]``, with noise where a key is given for it."""
        user = self.represent(observation, items).astype(jnp.float32)
        return user + self.noise(user) if self.noisy else user

    def query(self, user: Array) -> Array:
        """The queries ``f32[B, dim + 2]`` of users' vectors."""
        return with_one(jnp.concatenate([self.scale * normalize(user), self.value(user)], axis=-1))

    def vectors(self, ids: Array, items: Items) -> Array:
        """``[v, 1, b]`` of items ``ids: i32[...]``, ``f32[..., dim + 2]``."""
        vectors = with_one(normalize(self.item(ids, items).astype(jnp.float32)))
        return jnp.concatenate([vectors, lookup(self.item_bias, ids)], axis=-1)

    def catalogue(self, observation: Observation, items: Items) -> tuple[Array, Catalogue]:
        """Queries and index, for the operations of :mod:`recjax.catalogue`."""
        return self.queries(observation, items), self.item_index(items)

    def item_index(self, items: Items) -> ItemIndex:
        """Vectors of the catalogue."""
        vectors = with_one(normalize(self.item.all(items).astype(jnp.float32)))
        return ItemIndex(self._centred(jnp.concatenate([vectors, self.item_bias], axis=-1)))

    def _centred(self, index: Array) -> Array:
        return index


@q_networks.register("dot_product")
class DotProductQ(DotProduct, ItemVectorNetwork):
    """``q(s, a) = scale * cos(u(s), v(a)) + V(s) + b(a)``, an inner product of width ``dim + 2``.

    The scale is trained, and so is the bias of each item. As the query is ``[scale * u, V, 1]`` and the item vector is
    ``[v, 1, b]``, the largest value over the catalogue is one maximum-inner-product search. At the start values are
    small and the same for all states: what is said before anything was learned has to be unlearned first.
    """

    def at(self, observation: Observation, actions: Array, items: Items) -> Array:
        """Values ``f32[B, M]`` of the items ``actions: i32[B, M]``, all of them in ``0 .. N-1``."""
        return jnp.einsum("bd,bmd->bm", self.queries(observation, items), self.item_vectors(actions, items))

    def item_vectors(self, ids: Array, items: Items) -> Array:
        """Rows ``ids: i32[...]`` of the index of :meth:`catalogue`, ``f32[..., dim + 2]``."""
        return self.vectors(ids, items)


@q_networks.register("dueling_dot_product")
class DuelingDotProductQ(DotProduct):
    """:class:`DotProductQ` less the mean advantage over the catalogue, so that ``V(s)`` is the mean value.

    Centred item vectors and biases keep this an inner product, at the price that each depends on all items: values of
    chosen items need the vectors of all, and there are no item vectors to cache.

    References:
      Wang et al., "Dueling Network Architectures for Deep Reinforcement Learning",
      ICML 2016.
    """

    def _centred(self, index: Array) -> Array:
        # The one that carries the value of the state stays.
        centred = index - index.mean(0, keepdims=True)
        return centred.at[:, -2].set(1.0)


@q_networks.register("mlp")
class MLPQ(Towers, ScoringNetwork):
    """``q(s, a) = MLP([u(s), v(a)]) + b(a)`` with ReLU layers and a bias of each item.

    The first layer is a sum of a user and an item part, each computed once. A block of
    ``size`` items takes ``[B, size, max(hidden)]`` of memory, so :meth:`catalogue` asks for
    blocks of ``BLOCK_SIZE / max(hidden)`` items; ``__call__`` takes the whole catalogue at once.

    Attributes:
      hidden: widths of the hidden layers.
      dueling: makes the MLP an advantage, less its exact mean over the catalogue, and adds
        a value ``V(s)``. Values of chosen items then need a pass over all.
    """

    hidden: tuple[int, ...] = (64,)
    dueling: bool = False

    def setup(self) -> None:
        """Declares the parameters."""
        if not self.hidden:
            raise ValueError("MLPQ.hidden is empty; give at least one width, e.g. (64,).")
        super().setup()
        # Halved, because each of the two is one half of the inputs of the first layer.
        half = nn.initializers.variance_scaling(0.5, "fan_in", "truncated_normal")
        self.user_layer = nn.Dense(self.hidden[0], dtype=self.item.dtype, kernel_init=half)
        self.item_layer = nn.Dense(self.hidden[0], dtype=self.item.dtype, kernel_init=half, use_bias=False)
        # Plain parameters, because the head also runs inside the scan over blocks.
        small = nn.initializers.variance_scaling(INITIAL_SCALE**2, "fan_in", "truncated_normal")
        kernels = [*[nn.initializers.lecun_normal()] * (len(self.hidden) - 1), small]
        self.head = [
            (
                self.param(f"kernel_{i}", kernel, shape),
                self.param(f"bias_{i}", nn.initializers.zeros, shape[1:]),
            )
            for i, (kernel, *shape) in enumerate(zip(kernels, self.hidden, (*self.hidden[1:], 1), strict=True))
        ]
        self.item_bias = self.param("item_bias", nn.initializers.zeros, (self.num_items, 1))
        if self.dueling:
            self.value = nn.Dense(1, kernel_init=nn.initializers.zeros)

    def __call__(self, observation: Observation, items: Items) -> Array:
        """Values of every item, ``f32[B, N]``."""
        queries, scorer = self.catalogue(observation, items)
        return scorer.score_block(queries, 0, self.num_items)

    def at(self, observation: Observation, actions: Array, items: Items) -> Array:
        """Values ``f32[B, M]`` of the items ``actions: i32[B, M]``, all of them in ``0 .. N-1``."""
        if self.dueling:
            return super().at(observation, actions, items)
        user = self.user_layer(self.represent(observation, items))
        values = _mlp(self.head, user[:, None] + self.item_layer(self.item(actions, items)))
        return values + lookup(self.item_bias, actions)[..., 0]

    def catalogue(self, observation: Observation, items: Items) -> tuple[tuple[Array, Array], BlockScorer]:
        """Queries and scorer, for the operations of :mod:`recjax.catalogue`."""
        state = self.represent(observation, items)
        user, item, head = self.user_layer(state), self.item_layer(self.item.all(items)), self.head
        bias = self.item_bias[:, 0]

        def score_block(queries: tuple[Array, Array], start: Array | int, size: int) -> Array:
            user, baseline = queries
            block = lax.dynamic_slice_in_dim(item, start, size)
            return (
                _mlp(head, user[:, None] + block[None]) + baseline + lax.dynamic_slice_in_dim(bias, start, size)[None]
            )

        def score_ids(queries: tuple[Array, Array], ids: Array) -> Array:
            user, baseline = queries
            return _mlp(head, user[:, None] + item[ids]) + baseline + bias[ids]

        block_size = max(1, BLOCK_SIZE // max(self.hidden))
        scorer = BlockScorer(score_block, self.num_items, score_ids, block_size)
        baseline = jnp.zeros((user.shape[0], 1))
        if self.dueling:
            baseline = self.value(state.astype(jnp.float32)) - mean_score((user, baseline), scorer)[:, None]
        return (user, baseline), scorer


@q_networks.register("dueling_mlp")
def dueling_mlp(**fields: Any) -> MLPQ:
    """A dueling :class:`MLPQ`."""
    return MLPQ(dueling=True, **fields)


def with_one(vectors: Array) -> Array:
    """Vectors with a last number of 1, which a query multiplies with what does not depend on the item."""
    return jnp.concatenate([vectors, jnp.ones_like(vectors[..., :1])], axis=-1)


def _mlp(layers: list[tuple[Array, Array]], hidden: Array) -> Array:
    """ReLU layers from ``[B, M, H]`` before activation to ``f32[B, M]``."""
    for kernel, bias in layers:
        hidden = nn.relu(hidden) @ kernel.astype(hidden.dtype) + bias.astype(hidden.dtype)[None, None]
    return hidden[..., 0].astype(jnp.float32)
