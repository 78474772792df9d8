"""History encoders: a left-padded sequence of vectors becomes one vector.

Every encoder is a Flax module ``(vectors [B, L, D], mask bool[B, L]) -> [B, D]``. Its
result does not depend on what stands at masked positions, nor on how many of them
precede the history. Where nothing is left, the result is finite and unspecified; who
calls replaces it.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from recjax.registry import Registry
from recjax.types import Array

history_encoders: Registry = Registry("history encoder")


@history_encoders.register("mean")
class MeanEncoder(nn.Module):
    """The mean of the vectors that are there. It has no parameters and no sense of order.

    Attributes:
      dtype: of the computation.
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, vectors: Array, mask: Array) -> Array:
        """See the module."""
        present = mask[:, :, None]
        total = jnp.where(present, vectors, 0).astype(jnp.float32).sum(1)
        return (total / jnp.maximum(present.sum(1), 1)).astype(self.dtype)


@history_encoders.register("gru")
class GRUEncoder(nn.Module):
    """The last state of a gated recurrent unit; masked steps pass the state through.

    With ``x`` the input and ``h`` the state::

        r = sigmoid(W_r x + b_r + U_r h)
        z = sigmoid(W_z x + b_z + U_z h)
        n = tanh(W_n x + b_n + r * (U_n h + c_n))
        h' = (1 - z) * n + z * h

    The products with ``x`` are one matrix product before the scan.

    Attributes:
      dtype: of the computation; parameters are float32.

    References:
      Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder for
      Statistical Machine Translation", EMNLP 2014; Hidasi et al., "Session-based
      Recommendations with Recurrent Neural Networks", ICLR 2016.
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, vectors: Array, mask: Array) -> Array:
        """See the module."""
        dim = vectors.shape[-1]
        inputs = nn.Dense(3 * dim, dtype=self.dtype, name="input")(vectors)
        recurrent = self.param("recurrent", _orthogonal_blocks, (dim, 3 * dim)).astype(self.dtype)
        bias = self.param("candidate_bias", nn.initializers.zeros, (dim,)).astype(self.dtype)

        def step(h: Array, step_input: tuple[Array, Array]) -> tuple[Array, None]:
            x, present = step_input
            x_r, x_z, x_n = jnp.split(x, 3, axis=-1)
            h_r, h_z, h_n = jnp.split(h @ recurrent, 3, axis=-1)
            r, z = nn.sigmoid(x_r + h_r), nn.sigmoid(x_z + h_z)
            n = jnp.tanh(x_n + r * (h_n + bias[None, :]))
            return jnp.where(present[:, None], (1 - z) * n + z * h, h), None

        start = jnp.zeros((vectors.shape[0], dim), self.dtype)
        return lax.scan(step, start, (inputs.swapaxes(0, 1), mask.T))[0]


def _orthogonal_blocks(key: Array, shape: tuple[int, int]) -> Array:
    dim = shape[0]
    keys = jax.random.split(key, shape[1] // dim)
    return jnp.concatenate([nn.initializers.orthogonal()(k, (dim, dim)) for k in keys], axis=1)


@history_encoders.register("attention")
class SelfAttentionEncoder(nn.Module):
    """The output of a small causal transformer at the last position.

    Positions are learned and counted from the end, so the newest item always has
    position 0. Only the last position is read, so the last block computes no other.

    Attributes:
      num_blocks: transformer blocks.
      num_heads: attention heads; must divide the width of the vectors.
      max_length: learned positions; items further back share the last one.
      dtype: of the computation; parameters are float32.

    References:
      Kang, McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018.
    """

    num_blocks: int = 1
    num_heads: int = 2
    max_length: int = 256
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, vectors: Array, mask: Array) -> Array:
        """See the module."""
        length, dim = vectors.shape[-2:]
        if self.num_blocks < 1:
            raise ValueError(f"SelfAttentionEncoder.num_blocks is {self.num_blocks}; it must be at least 1.")
        if dim % self.num_heads:
            raise ValueError(
                f"SelfAttentionEncoder.num_heads is {self.num_heads}, which does not divide the width {dim}"
                " of the item vectors; choose a divisor."
            )
        table = self.param("position", nn.initializers.normal(0.02), (self.max_length, dim)).astype(self.dtype)
        from_end = jnp.minimum(jnp.arange(length - 1, -1, -1), self.max_length - 1)
        x = jnp.where(mask[:, :, None], vectors.astype(self.dtype), 0) + table[from_end][None]
        causal = jnp.tril(jnp.ones((length, length), bool))
        visible = mask[:, None, None, :] & causal[None, None]
        for index in range(self.num_blocks):
            is_last = index == self.num_blocks - 1
            block = TransformerBlock(self.num_heads, self.dtype, name=f"block_{index}")
            x = block(x, visible[:, :, -1:] if is_last else visible)
        return nn.LayerNorm(dtype=self.dtype, name="norm")(x[:, -1])


class TransformerBlock(nn.Module):
    """Pre-norm attention and a feed-forward layer, for the last ``Q`` positions.

    Attributes:
      num_heads: attention heads.
      dtype: of the computation; parameters are float32.
    """

    num_heads: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, visible: Array) -> Array:
        """``(x [B, L, D], visible bool[B, 1, Q, L]) -> [B, Q, D]``."""
        dim, num_queries = x.shape[-1], visible.shape[-2]
        normed = nn.LayerNorm(dtype=self.dtype, name="attention_norm")(x)
        attend = nn.MultiHeadDotProductAttention(self.num_heads, dtype=self.dtype, name="attention")
        x = x[:, -num_queries:] + attend(normed[:, -num_queries:], normed, mask=visible)
        normed = nn.LayerNorm(dtype=self.dtype, name="feed_forward_norm")(x)
        wide = nn.gelu(nn.Dense(4 * dim, dtype=self.dtype, name="wide")(normed))
        return x + nn.Dense(dim, dtype=self.dtype, name="narrow")(wide)
