"""Noisy layers: weights that are random as much as was learned, by which values explore."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from recjax.nn.contracts import ScoringNetwork
from recjax.types import Array, PyTree

SPREAD = "kernel_spread"
"""Name of the parameter that says how much weights vary."""


class NoisyDense(nn.Module):
    """A dense layer whose weights are drawn anew at every use: ``y = x (W + S ∘ f(a) f(b)ᵀ) + w + s ∘ f(b)``.

    ``a`` and ``b`` are standard normal, one number an input and one an output, and ``f(z) = sign(z) √|z|``. Every
    row of a batch has noise of its own, so that users explore apart. The noise is drawn with the key ``"noise"``;
    where none is given the layer is ``x W + w``, which is how a policy is evaluated. ``S`` and ``s`` are learned: noise
    stays as long as nothing says which way is better.

    Attributes:
      features: width of the result.
      use_bias: whether there is ``w`` and ``s``.
      initial_spread: σ₀; at first all of ``S`` and ``s`` are ``σ₀ / √(inputs)``.
      kernel_init: of ``W``; by default, as of ``w``, uniform in ``±1 / √(inputs)``.

    References:
      Fortunato et al., "Noisy Networks for Exploration", ICLR 2018, with factorised noise.
    """

    features: int
    use_bias: bool = True
    initial_spread: float = 0.5
    kernel_init: nn.initializers.Initializer | None = None

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        """``f32[..., inputs]`` to ``f32[..., features]``."""
        width = inputs.shape[-1]
        bound = width**-0.5

        def uniform(key: Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> Array:
            return jax.random.uniform(key, shape, dtype, -bound, bound)

        spread_init = nn.initializers.constant(self.initial_spread * bound)
        shape = (width, self.features)
        kernel = self.param("kernel", self.kernel_init or uniform, shape)
        spread = self.param(SPREAD, spread_init, shape)
        outputs = inputs @ kernel
        if self.use_bias:
            outputs += jnp.broadcast_to(self.param("bias", uniform, shape[1:]), outputs.shape)
            bias_spread = self.param("bias_spread", spread_init, shape[1:])
        if not self.has_rng("noise"):
            return outputs
        drawn = jax.random.normal(self.make_rng("noise"), (*inputs.shape[:-1], width + self.features))
        of_inputs, of_outputs = jnp.split(jnp.sign(drawn) * jnp.sqrt(jnp.abs(drawn)), [width], axis=-1)
        moved = (inputs * of_inputs) @ spread
        if self.use_bias:
            moved += jnp.broadcast_to(bias_spread, moved.shape)
        return outputs + of_outputs * moved


def check_noise(network: ScoringNetwork, params: PyTree) -> None:
    """Raises ValueError where a network says that it has a :class:`NoisyDense` and has none, or has one unsaid."""
    paths = (path for path, _ in jax.tree_util.tree_leaves_with_path(params))
    found = any(getattr(path[-1], "key", None) == SPREAD for path in paths)
    if found != network.is_noisy:
        says = "has no nn.NoisyDense" if network.is_noisy else "has an nn.NoisyDense"
        raise ValueError(f"{type(network).__name__}.is_noisy is {network.is_noisy}, but it {says}; give noisy={found}.")
