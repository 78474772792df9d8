"""BERT4Rec: a bidirectional transformer that predicts masked items."""

from __future__ import annotations

from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp

from recjax.nn.attention import Activation, Norm, dropout
from recjax.nn.contracts import HistoryEncoder
from recjax.nn.history import Positions, history_encoders, transformer, with_positions
from recjax.types import Array


@history_encoders.register("bidirectional")
class BidirectionalEncoder(HistoryEncoder):
    """BERT4Rec: the output of a bidirectional transformer at masked positions of a history.

    The mask is the item outside the vocabulary (id ``N``), whose vector is trained to stand for it.
    Training masks items of histories (``SequenceConfig(objective="cloze")``); to predict what comes next,
    :class:`~recjax.nn.Towers` put one mask behind the history. With
    ``every_position`` the outputs at all positions are those of one pass over the whole history.

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

    is_bidirectional: ClassVar[bool] = True

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
        """See :class:`recjax.nn.HistoryEncoder`."""
        x, bias = with_positions(self, vectors, mask, time)
        x = nn.LayerNorm(dtype=self.dtype, name="input_norm")(x)
        x = dropout(self, self.dropout, x)
        x = transformer(self, x, mask[:, None, None, :], bias, every_position)
        if self.norm != "post":
            x = nn.LayerNorm(dtype=self.dtype, name="norm")(x)
        return x if every_position else x[:, -1]
