"""Neural-linear bandits: Bayesian linear regression on what a network has learned to see."""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct

from recjax.agents.bandits import ridge
from recjax.agents.bandits.designs import ONE_MODEL, FeatureMap, affine, crossed_features
from recjax.agents.bandits.regressions import Estimate, Seen, feature_width
from recjax.agents.bandits.ridge import Ridge
from recjax.agents.state import started
from recjax.fit import Optimizer, descend
from recjax.losses import masked_mean
from recjax.types import Array, Items, Observation, PyTree, Spec


class MLPFeatures(nn.Module):
    """A perceptron on the numbers of a feature map, ``f32[B, M, widths[-1] + 1]`` of which the last is 1.

    Attributes:
      features: what the network reads.
      widths: of its layers, each a ReLU of an affine map.
    """

    features: FeatureMap = crossed_features
    widths: tuple[int, ...] = (32, 16)

    @nn.compact
    def __call__(self, observation: Observation, items: Items, choices: Array) -> Array:
        """See :class:`FeatureMap`."""
        hidden = self.features(observation, items, choices)
        for width in self.widths:
            hidden = nn.relu(nn.Dense(width)(hidden))
        return affine(hidden)


@struct.dataclass
class NeuralModel:
    """A network, and a regression on its last layer.

    Attributes:
      params: ``"network"`` variables of the network, ``"head"`` ``f32[D]`` the weights that it learned with.
      opt_state: state of the optimiser.
      squares: ``f32[D, D]`` decayed sum of ``φ φᵀ``.
      products: ``f32[D]`` decayed sum of ``r φ``.
      weight: ``f32[]`` decayed number of rewards in these sums.
      count: ``f32[]`` number of rewards.
      posterior: of the weights of the last layer.
    """

    params: PyTree
    opt_state: optax.OptState
    squares: Array
    products: Array
    weight: Array
    count: Array
    posterior: Ridge


@dataclasses.dataclass(frozen=True)
class NeuralLinear:
    """A network that learns features of rewards by gradient descent, and ridge regression on these features.

    The regression is of mean moments, as the network sees what was shown lately, times the number of rewards: features
    move while the network learns, so older moments fade by ``decay`` an update, and certainty grows all the same.

    Attributes:
      network: a Flax module that is a :class:`FeatureMap`, such as :class:`MLPFeatures`.
      optimizer: an optax transformation; clip gradients there.
      decay: of older moments, in (0, 1].

    References:
      Riquelme, Tucker, Snoek, "Deep Bayesian Bandits Showdown", ICLR 2018, where the moments are computed anew of all
      that was ever shown.
    """

    network: nn.Module
    optimizer: Optimizer
    decay: float = 0.99

    def __post_init__(self) -> None:
        if not 0 < self.decay <= 1:
            raise ValueError(f"decay is {self.decay}; it must be in (0, 1].")

    @property
    def per_item(self) -> bool:
        """See :class:`Regression`."""
        return False

    def width(self, model: NeuralModel) -> int:
        """See :class:`Regression`."""
        return model.posterior.mean.shape[1]

    def size(self, model: NeuralModel) -> int:
        """See :class:`Regression`."""
        return self.width(model)

    def init(self, key: Array, spec: Spec, items: Items, hparams: Any, params: PyTree) -> NeuralModel:
        """See :class:`Regression`; ``params`` are variables of the network."""
        own = self._params(key, spec, items)
        own["network"] = started(own["network"], params)
        (width,) = own["head"].shape
        return NeuralModel(
            params=own,
            opt_state=self.optimizer.init(own),
            squares=jnp.zeros((width, width)),
            products=jnp.zeros(width),
            weight=jnp.zeros(()),
            count=jnp.zeros(()),
            posterior=ridge.prior(1, width, hparams.regularisation),
        )

    def _params(self, key: Array, spec: Spec, items: Items) -> dict[str, PyTree]:
        observation, choices = spec.empty_observation((1,)), jnp.zeros((1, 2), jnp.int32)
        variables = jax.jit(self.network.init)(key, observation, items, choices)

        def see(observation: Observation, items: Items, choices: Array) -> Array:
            return self._features({"network": variables}, observation, items, choices)

        return {"network": variables, "head": jnp.zeros(feature_width(see, spec, items))}

    def estimate(self, model: NeuralModel, observation: Observation, items: Items, choices: Array) -> Estimate:
        """See :class:`Regression`."""
        features = self._features(model.params, observation, items, choices)
        rows = ONE_MODEL.rows(observation, choices)
        return Estimate(ridge.predict(model.posterior, features, rows), ridge.spread(model.posterior, features, rows))

    def observe(self, model: NeuralModel, hparams: Any, seen: Seen) -> tuple[NeuralModel, dict[str, Array]]:
        """See :class:`Regression`."""
        shown = seen.observation, seen.items, seen.choices
        before = self.estimate(model, *shown).mean

        def loss_fn(params: PyTree) -> tuple[Array, None]:
            error = self._features(params, *shown) @ params["head"] - seen.reward
            return masked_mean(error**2, seen.is_learned), None

        done = descend(loss_fn, self.optimizer, model.params, model.opt_state)
        features = jnp.where(seen.is_learned[..., None], self._features(done.params, *shown), 0.0)
        features = features.reshape(-1, features.shape[-1])
        rewards, number = jnp.where(seen.is_learned, seen.reward, 0.0).ravel(), jnp.sum(seen.is_learned)
        sums = dataclasses.replace(
            model,
            squares=self.decay * model.squares + jnp.matmul(features.T, features, precision="highest"),
            products=self.decay * model.products + rewards @ features,
            weight=self.decay * model.weight + number,
            count=model.count + number,
        )
        posterior = _posterior(sums, hparams.regularisation)
        learned = dataclasses.replace(sums, params=done.params, opt_state=done.opt_state, posterior=posterior)
        error = before - seen.reward
        return learned, {"loss": masked_mean(error**2, seen.is_learned), "network_loss": done.loss}

    def _features(self, params: PyTree, observation: Observation, items: Items, choices: Array) -> Array:
        found: Any = self.network.apply(params["network"], observation, items, choices)
        return found


def _posterior(model: NeuralModel, regularisation: Array) -> Ridge:
    """Of ``count`` rewards with the mean moments that are held."""
    width = len(model.products)
    scale = model.count / jnp.maximum(model.weight, 1.0)
    factor = jnp.linalg.cholesky(regularisation * jnp.eye(width) + scale * model.squares)
    # C Cᵀ = A, so that C⁻ᵀ is a root of A⁻¹.
    root = jax.lax.linalg.triangular_solve(factor, jnp.eye(width), lower=True, transpose_a=True)
    return Ridge((root @ (root.T @ (scale * model.products)))[None], root[None])
