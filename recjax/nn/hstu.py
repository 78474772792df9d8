"""Hierarchical sequential transduction units: attention without a softmax, gated."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from recjax.nn.attention import dropout
from recjax.nn.contracts import HistoryEncoder
from recjax.nn.history import Positions, causal_mask, history_encoders, with_positions
from recjax.types import Array


@history_encoders.register("hstu")
class HSTUEncoder(HistoryEncoder):
    """A stack of HSTU blocks.

    Attributes:
      num_blocks: blocks.
      num_heads: attention heads; must divide the width of the vectors.
      max_length: distances, or learned positions, that have weights of their own; attention weights
        are divided by it.
      positions: see :class:`~recjax.nn.SelfAttentionEncoder`; the paper's are "relative".
      time_buckets: see :class:`~recjax.nn.SelfAttentionEncoder`.
      dropout: share that is dropped of the inputs and of what each block adds.
      dtype: of the computation; parameters are float32.

    References:
      Zhai et al., "Actions Speak Louder than Words: Trillion-Parameter Sequential
      Transducers for Generative Recommendations", ICML 2024.
    """

    num_blocks: int = 2
    num_heads: int = 1
    max_length: int = 256
    positions: Positions = "relative"
    time_buckets: int = 0
    dropout: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, vectors: Array, mask: Array, *, every_position: bool = False, time: Array | None = None
    ) -> Array:
        """See :class:`recjax.nn.HistoryEncoder`."""
        if self.positions == "rotary":
            raise ValueError("HSTUEncoder.positions is 'rotary'; choose 'relative', 'from_start' or 'from_end'.")
        x, bias = with_positions(self, vectors, mask, time)
        x = dropout(self, self.dropout, x)
        visible = causal_mask(mask)
        for index in range(self.num_blocks):
            only_last = index == self.num_blocks - 1 and not every_position
            block = HSTUBlock(self.num_heads, self.max_length, self.dropout, self.dtype, name=f"block_{index}")
            x = block(x, visible[:, :, -1:] if only_last else visible, bias)
        return x if every_position else x[:, -1]


class HSTUBlock(nn.Module):
    """``x + W_o (norm(A v) * u)`` with ``u, v, q, k = split(silu(W norm(x)))``, ``A = silu(q k' + bias) / max_length``.

    Attributes:
      num_heads: attention heads.
      max_length: what the weights are divided by.
      dropout: share that is dropped of what the block adds.
      dtype: of the computation; parameters are float32.
    """

    num_heads: int
    max_length: int
    dropout: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, visible: Array, bias: Array | None = None) -> Array:
        """``[B, Q, D]``; the arguments are those of :class:`~recjax.nn.attention.SelfAttention`."""
        dim, num_queries = x.shape[-1], visible.shape[-2]
        if dim % self.num_heads:
            raise ValueError(
                f"num_heads is {self.num_heads}, which does not divide the width {dim} of the vectors;"
                " choose a divisor."
            )
        normed = nn.LayerNorm(dtype=self.dtype, name="norm")(x)
        mixed = nn.silu(nn.Dense(4 * dim, dtype=self.dtype, name="mix")(normed))
        u, v, q, k = jnp.split(mixed, 4, axis=-1)
        u, q = u[:, -num_queries:], q[:, -num_queries:]
        q, k, v = (part.reshape(*part.shape[:-1], self.num_heads, -1) for part in (q, k, v))
        logits = jnp.einsum("bqhd,bkhd->bhqk", q, k)
        logits = logits if bias is None else logits + bias[:, :, -num_queries:].astype(self.dtype)
        weights = jnp.where(visible, nn.silu(logits) / self.max_length, 0)
        attended = jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(u.shape)
        gated = nn.LayerNorm(dtype=self.dtype, name="attended_norm")(attended) * u
        added = nn.Dense(dim, dtype=self.dtype, name="out")(dropout(self, self.dropout, gated))
        return x[:, -num_queries:] + added
