"""BERT4Rec: a transformer that sees both sides, asked for the item in a gap."""

from __future__ import annotations

from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp

from recjax.nn.attention import Activation, Norm, dropout
from recjax.nn.history import Positions, history_encoders, placed, transformer
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
      max_length: learned positions; items further on share the last one.
      positions: see :class:`~recjax.nn.SelfAttentionEncoder`.
      time_buckets: see :class:`~recjax.nn.SelfAttentionEncoder`.
      dropout: share that is dropped of the inputs and inside the blocks.
      norm: where layer norms stand, see :data:`~recjax.nn.attention.Norm`; the paper's are "post".
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
    positions: Positions = "from_start"
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
        x, bias = placed(self, vectors, mask, time)
        x = nn.LayerNorm(dtype=self.dtype, name="input_norm")(x)
        x = dropout(self, self.dropout, x)
        x = transformer(self, x, mask[:, None, None, :], bias, every_position)
        if self.norm != "post":
            x = nn.LayerNorm(dtype=self.dtype, name="norm")(x)
        return x if every_position else x[:, -1]
