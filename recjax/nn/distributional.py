"""Q-networks that know distributions of what items are worth, and rank them by the means of these."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jax import lax

from recjax.catalogue import BLOCK_SIZE, BlockScorer, Catalogue, dense_scorer
from recjax.nn.contracts import DistributionalNetwork
from recjax.nn.distributions import Categorical, Quantiles
from recjax.nn.q_networks import DotProduct, DotProductQ, q_networks
from recjax.types import Array, Items, Observation, PyTree


@q_networks.register("quantile_dot_product")
class QuantileDotProductQ(DotProductQ, DistributionalNetwork):
    """Quantiles of what each item is worth, every one an inner product, and so their mean: QR-DQN.

    ``q_i(s, a) = q(s, a) + <d_i(s), v(a)> + e_i(s)`` with ``q`` of :class:`recjax.nn.DotProductQ` and deviations
    ``d_i, e_i``, which are linear in the user's vector and 0 at first. The mean over ``i`` is the inner product with
    the mean query: searching the catalogue, caching item vectors and updating rows cost what they cost with
    ``DotProductQ``, and quantiles are computed for chosen items alone.

    Attributes:
      distribution: how many quantiles, and their loss.
    """

    distribution: Quantiles = Quantiles()

    @property
    def head(self) -> Quantiles:
        """See :class:`recjax.nn.DistributionalNetwork`."""
        return self.distribution

    def setup(self) -> None:
        """Declares the parameters."""
        super().setup()
        self.deviations = _deviations(self.distribution.size, self.user.dim)

    def distributions(self, observation: Observation, actions: Array, items: Items) -> Array:
        """Quantiles ``f32[B, M, size]`` of the items ``actions: i32[B, M]``, all of them in ``0 .. N-1``."""
        queries = self._quantile_queries(self.user_vectors(observation, items))
        return jnp.einsum("bsd,bmd->bms", queries, self.vectors(actions, items))

    def query(self, user: Array) -> Array:
        """The queries of means, ``f32[B, dim + 2]``."""
        return self._quantile_queries(user).mean(axis=1)

    def _quantile_queries(self, user: Array) -> Array:
        """``f32[B, size, dim + 2]``."""
        return super().query(user)[:, None] + _shaped(self.deviations(user), self.distribution.size)


@q_networks.register("categorical_dot_product")
class CategoricalDotProductQ(DotProduct, DistributionalNetwork):
    """Probabilities of atoms for what each item is worth, whose logits are inner products: C51.

    ``l_k(s, a) = z_k / Δ * q(s, a) + <d_k(s), v(a)> + e_k(s) - 2 log(1 + (z_k / Δ)²)`` at the atoms ``z_k``, which are
    ``Δ`` apart, with ``q`` of :class:`recjax.nn.DotProductQ`, which tilts a distribution to larger values, and
    deviations as in :class:`QuantileDotProductQ`. At first values are those near 0.

    An expected value is no inner product. A search of the catalogue computes the logits of all atoms for a block of
    items at a time: ``size`` times the work of ``DotProductQ``, and no item vectors to cache. For big catalogues take
    :class:`QuantileDotProductQ`.

    Attributes:
      distribution: the atoms.
    """

    distribution: Categorical = Categorical()

    @property
    def head(self) -> Categorical:
        """See :class:`recjax.nn.DistributionalNetwork`."""
        return self.distribution

    def setup(self) -> None:
        """Declares the parameters."""
        super().setup()
        self.deviations = _deviations(self.distribution.size, self.user.dim)

    def __call__(self, observation: Observation, items: Items) -> Array:
        """Expected values of every item, ``f32[B, N]``."""
        queries, scorer = self.catalogue(observation, items)
        return scorer.score_block(queries, 0, self.num_items)

    def distributions(self, observation: Observation, actions: Array, items: Items) -> Array:
        """Logits ``f32[B, M, size]`` of the items ``actions: i32[B, M]``, all of them in ``0 .. N-1``."""
        queries = self._atom_queries(observation, items)
        return jnp.einsum("bsd,bmd->bms", queries, self.vectors(actions, items))

    def catalogue(self, observation: Observation, items: Items) -> tuple[Array, BlockScorer]:
        """Queries ``f32[B, size, dim + 2]`` and scorer, for the operations of :mod:`recjax.catalogue`."""
        vectors, head = self.item_index(items).vectors, self.distribution

        def score_block(queries: Array, start: Array | int, size: int) -> Array:
            block = lax.dynamic_slice_in_dim(vectors, start, size)
            return head.mean(jnp.einsum("bsd,md->bms", queries, block))

        def score_ids(queries: Array, ids: Array) -> Array:
            return head.mean(jnp.einsum("bsd,bmd->bms", queries, vectors[ids]))

        block_size = max(1, BLOCK_SIZE // head.size)
        scorer = BlockScorer(score_block, self.num_items, score_ids, block_size)
        return self._atom_queries(observation, items), scorer

    def _atom_queries(self, observation: Observation, items: Items) -> Array:
        """``f32[B, size, dim + 2]``."""
        user, atoms = self.user_vectors(observation, items), self.distribution.atoms
        steps = (atoms / (atoms[1] - atoms[0]))[None, :, None]
        tilted = steps * self.query(user)[:, None]
        prior = jnp.zeros_like(tilted).at[:, :, -2].set(-2.0 * jnp.log1p(steps[..., 0] ** 2))
        return tilted + prior + _shaped(self.deviations(user), self.distribution.size)


class DenseDistributionalNetwork(DistributionalNetwork):
    """Any Flax module ``(observation, items) -> f32[B, N, size]`` as a distributional network.

    It holds the distributions of all items of all users, and is meant for a handful of items, where
    :class:`recjax.nn.DenseNetwork` would be used.

    Attributes:
      module: computes the numbers that describe the distributions of all items; its parameters stand below ``module``.
      distribution: :class:`recjax.nn.Categorical` or :class:`recjax.nn.Quantiles`.
      noisy: whether ``module`` has a :class:`recjax.nn.NoisyDense`.
    """

    module: nn.Module
    distribution: Categorical | Quantiles
    noisy: bool = False

    @property
    def head(self) -> Categorical | Quantiles:
        """See :class:`recjax.nn.DistributionalNetwork`."""
        return self.distribution

    @property
    def is_noisy(self) -> bool:
        """See :class:`recjax.nn.ScoringNetwork`."""
        return self.noisy

    def __call__(self, observation: Observation, items: Items) -> Array:
        """Expected values of every item, ``f32[B, N]``."""
        return self.distribution.mean(self._outputs(observation, items))

    def catalogue(self, observation: Observation, items: Items) -> tuple[PyTree, Catalogue]:
        """See :class:`recjax.nn.ScoringNetwork`."""
        return dense_scorer(self(observation, items))

    def distributions(self, observation: Observation, actions: Array, items: Items) -> Array:
        """See :class:`recjax.nn.DistributionalNetwork`."""
        return jnp.take_along_axis(self._outputs(observation, items), actions[..., None], axis=1)

    def _outputs(self, observation: Observation, items: Items) -> Array:
        outputs: Array = self.module(observation, items)
        wanted = (len(observation.history), items.num_items, self.distribution.size)
        if outputs.shape != wanted:
            raise ValueError(
                f"{type(self.module).__name__} gives {outputs.shape} for {wanted[0]} users, {wanted[1]} items and a"
                f" {type(self.distribution).__name__} of size {wanted[2]}; it must give {wanted}."
            )
        return outputs


def _deviations(size: int, dim: int) -> nn.Dense:
    """What makes queries from a user's vector that add to those of a plain Q-network, none of it at first."""
    return nn.Dense(size * (dim + 1), kernel_init=nn.initializers.zeros)


def _shaped(deviations: Array, size: int) -> Array:
    """``f32[B, size, dim + 2]``; biases of items are left as they are."""
    return jnp.pad(deviations.reshape(len(deviations), size, -1), ((0, 0), (0, 0), (0, 1)))
