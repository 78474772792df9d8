"""BERT4Rec: a transformer that sees both sides, asked for the item in a gap."""

from __future__ import annotations

from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp

from recjax.nn.attention import Activation, Norm, TransformerBlock, dropout
from recjax.nn.history import Positions, check_encoder, history_encoders, positions_from_end, relative_bias
from recjax.types import Array


@history_encoders.register("bidirectional")
class BidirectionalEncoder(nn.Module):
    """BERT4Rec: the output of a bidirectional transformer at a gap in the history.

    A gap is an item outside the vocabulary (id ``N``), whose vector is trained to stand for
    one. Training opens gaps in histories (``SequenceConfig(objective="cloze")``); to ask what
    comes next, :class:`~recjax.nn.Towers` put one gap behind the history. With
    ``every_position`` the outputs at all positions are those of one look at the whole history.

    Attributes:
      num_blocks: transformer blocks.
      num_heads: attention heads; must divide the width of the vectors.
      max_length: learned positions; items further back share the last one.
      positions: see :class:`~recjax.nn.SelfAttentionEncoder`.
      time_buckets: see :class:`~recjax.nn.SelfAttentionEncoder`.
      dropout: share that is dropped of the inputs and inside the blocks.
      norm: layer norms "pre" or "post" the sublayers; the paper's stand behind.
      expansion: see :class:`~recjax.nn.attention.TransformerBlock`.
      activation: see there.
      dtype: of the computation; parameters are float32.

    References:
      Sun et al., "BERT4Rec: Sequential Recommendation with Bidirectional Encoder
      Representations from Transformer", CIKM 2019.
    """

    asks_at_gap: ClassVar[bool] = True

    num_blocks: int = 2
    num_heads: int = 2
    max_length: int = 256
    positions: Positions = "learned"
    time_buckets: int = 0
    dropout: float = 0.0
    norm: Norm = "post"
    expansion: int = 4
    activation: Activation = "gelu"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, vectors: Array, mask: Array, *, every_position: bool = False, time: Array | None = None
    ) -> Array:
        """See :mod:`recjax.nn.history`."""
        length = vectors.shape[-2]
        check_encoder(self)
        bias = relative_bias(self, length, time)
        x = jnp.where(mask[:, :, None], vectors.astype(self.dtype), 0)
        if self.positions == "learned":
            x = x + positions_from_end(self, length, vectors.shape[-1])
        x = nn.LayerNorm(dtype=self.dtype, name="input_norm")(x)
        x = dropout(self, self.dropout, x)
        for index in range(self.num_blocks):
            only_last = index == self.num_blocks - 1 and not every_position
            block = TransformerBlock(
                self.num_heads,
                dropout=self.dropout,
                norm=self.norm,
                expansion=self.expansion,
                activation=self.activation,
                rotary=self.positions == "rotary",
                dtype=self.dtype,
                name=f"block_{index}",
            )
            num_queries = 1 if only_last else length
            visible = jnp.broadcast_to(mask[:, None, None, :], (len(x), 1, num_queries, length))
            x = block(x, visible, bias)
        if self.norm == "pre":
            x = nn.LayerNorm(dtype=self.dtype, name="norm")(x)
        return x if every_position else x[:, -1]
