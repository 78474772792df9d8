"""From the vectors that a pretrained model makes of items to item vectors of a recommender.

Every adaptor is a Flax module ``(vectors [..., V]) -> [..., dim]`` with fields ``dim``, ``initial_norm`` (about the
norm of what it makes of vectors of norm 1 at the start) and ``dtype``.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from recjax.registry import Registry
from recjax.types import Array

adaptors: Registry = Registry("adaptor")


def _keeps_norm(norm: float, **options: Any) -> Any:
    """Starts a map that makes vectors of about ``norm`` of those of norm 1."""
    return nn.initializers.variance_scaling(norm**2, "fan_out", "normal", **options)


@adaptors.register("linear")
class LinearAdaptor(nn.Module):
    """One linear map.

    Attributes:
      dim: width of the result.
      initial_norm: see the top of the module.
      dtype: of the computation; parameters are float32.
    """

    dim: int
    initial_norm: float = 1.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, vectors: Array) -> Array:
        """See the module."""
        return nn.Dense(self.dim, kernel_init=_keeps_norm(self.initial_norm), dtype=self.dtype)(vectors)


@adaptors.register("mlp")
class MLPAdaptor(nn.Module):
    """Two linear maps with a GELU between them.

    Attributes:
      dim: width of the result.
      initial_norm: see the top of the module.
      expansion: width between them, in ``dim``.
      dtype: of the computation; parameters are float32.
    """

    dim: int
    initial_norm: float = 1.0
    expansion: int = 2
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, vectors: Array) -> Array:
        """See the module."""
        width = self.expansion * self.dim
        # Numbers of about 1 in between, where the GELU bends; half of their squares is left of it.
        hidden = nn.gelu(nn.Dense(width, kernel_init=_keeps_norm(width**0.5), dtype=self.dtype)(vectors))
        last = nn.initializers.variance_scaling(2 * self.initial_norm**2 / self.dim, "fan_in", "normal")
        return nn.Dense(self.dim, kernel_init=last, dtype=self.dtype)(hidden)


@adaptors.register("moe")
class MixtureAdaptor(nn.Module):
    """A mixture of experts, each of which whitens the vectors by a shift and a map of its own.

    With ``x`` a vector and ``g`` the weights of experts, noisy where a ``dropout`` key is given::

        g = softmax(x W_g + e * softplus(x W_n)),  e ~ Normal(0, 1)
        v = sum_k g_k (x - b_k) W_k

    Attributes:
      dim: width of the result.
      initial_norm: see the top of the module.
      experts: how many there are.
      dropout: share of the inputs of experts that is dropped where a ``dropout`` key is given.
      dtype: of the computation; parameters are float32.

    References:
      Hou et al., "Towards Universal Sequence Representation Learning for Recommender
      Systems", KDD 2022.
    """

    dim: int
    initial_norm: float = 1.0
    experts: int = 8
    dropout: float = 0.2
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, vectors: Array) -> Array:
        """See the module."""
        width, training = vectors.shape[-1], self.has_rng("dropout")
        shift = self.param("shift", nn.initializers.zeros, (self.experts, width))
        # Experts start at the root of their number times the norm, which their mean loses.
        kernel_init = _keeps_norm(self.initial_norm * self.experts**0.5, batch_axis=0)
        kernel = self.param("kernel", kernel_init, (self.experts, width, self.dim))
        weights = nn.Dense(self.experts, use_bias=False, kernel_init=nn.initializers.zeros, name="gate")(vectors)
        spread = nn.Dense(self.experts, use_bias=False, kernel_init=nn.initializers.zeros, name="noise")(vectors)
        if training:
            noise = jax.random.normal(self.make_rng("dropout"), weights.shape)
            weights = weights + noise * nn.softplus(spread)
        seen = nn.Dropout(self.dropout, deterministic=not training)(vectors).astype(self.dtype)
        g, kernel = nn.softmax(weights).astype(self.dtype), kernel.astype(self.dtype)
        # (x - b_k) W_k = x W_k - b_k W_k: shifted copies of x, one an expert, are never made.
        made = jnp.einsum("...v,kvd->...kd", seen, kernel)
        shifts = jnp.einsum("kv,kvd->kd", shift.astype(self.dtype), kernel)
        return jnp.einsum("...k,...kd->...d", g, made) - g @ shifts
