"""History encoders: a left-padded sequence of vectors becomes one vector.

Each is a :class:`recjax.nn.HistoryEncoder`. With ``every_position`` it encodes the history up to and with each
position, which training on whole sequences reads in one pass. Dropout is on
where a ``dropout`` key is given, see :mod:`recjax.nn.attention`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from recjax.nn.attention import Activation, Norm, RelativeBias, TransformerBlock, dropout
from recjax.nn.contracts import HistoryEncoder
from recjax.registry import Registry
from recjax.types import Array

Positions = Literal["from_start", "from_end", "rotary", "relative"]
"""How a transformer knows the order of a history."""

history_encoders: Registry[Callable[..., HistoryEncoder]] = Registry("history encoder")


@history_encoders.register("mean")
class MeanEncoder(HistoryEncoder):
    """The mean of the vectors of a history, in any order. It has no parameters.

    Attributes:
      dtype: of the computation.
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, vectors: Array, mask: Array, *, every_position: bool = False, time: Array | None = None
    ) -> Array:
        """See :class:`recjax.nn.HistoryEncoder`."""
        present = mask[:, :, None]
        add = jnp.cumsum if every_position else jnp.sum
        total = add(jnp.where(present, vectors, 0).astype(jnp.float32), axis=1)
        return (total / jnp.maximum(add(present, axis=1), 1)).astype(self.dtype)


@history_encoders.register("gru")
class GRUEncoder(HistoryEncoder):
    """The last state of a gated recurrent unit; masked steps pass the state through.

    With ``x`` the input and ``h`` the state::

        r = sigmoid(W_r x + b_r + U_r h)
        z = sigmoid(W_z x + b_z + U_z h)
        n = tanh(W_n x + b_n + r * (U_n h + c_n))
        h' = (1 - z) * n + z * h

    The products with ``x`` are one matrix product before the scan.

    Attributes:
      dropout: share of the inputs that is dropped.
      dtype: of the computation; parameters are float32.

    References:
      Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder for
      Statistical Machine Translation", EMNLP 2014; Hidasi et al., "Session-based
      Recommendations with Recurrent Neural Networks", ICLR 2016.
    """

    dropout: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, vectors: Array, mask: Array, *, every_position: bool = False, time: Array | None = None
    ) -> Array:
        """See :class:`recjax.nn.HistoryEncoder`."""
        dim = vectors.shape[-1]
        vectors = dropout(self, self.dropout, vectors)
        inputs = nn.Dense(3 * dim, dtype=self.dtype, name="input")(vectors)
        recurrent = self.param("recurrent", _orthogonal_blocks, (dim, 3 * dim)).astype(self.dtype)
        bias = self.param("candidate_bias", nn.initializers.zeros, (dim,)).astype(self.dtype)

        def step(h: Array, step_input: tuple[Array, Array]) -> tuple[Array, Array | None]:
            x, present = step_input
            x_r, x_z, x_n = jnp.split(x, 3, axis=-1)
            h_r, h_z, h_n = jnp.split(h @ recurrent, 3, axis=-1)
            r, z = nn.sigmoid(x_r + h_r), nn.sigmoid(x_z + h_z)
            n = jnp.tanh(x_n + r * (h_n + bias[None, :]))
            h = jnp.where(present[:, None], (1 - z) * n + z * h, h)
            return h, h if every_position else None

        start = jnp.zeros((vectors.shape[0], dim), self.dtype)
        last, states = lax.scan(step, start, (inputs.swapaxes(0, 1), mask.T))
        return last if states is None else states.swapaxes(0, 1)


def _orthogonal_blocks(key: Array, shape: tuple[int, int]) -> Array:
    dim = shape[0]
    keys = jax.random.split(key, shape[1] // dim)
    return jnp.concatenate([nn.initializers.orthogonal()(k, (dim, dim)) for k in keys], axis=1)


@history_encoders.register("attention")
class SelfAttentionEncoder(HistoryEncoder):
    """SASRec: a causal transformer.

    Where only the last position is read, the last block computes no other.

    Attributes:
      num_blocks: transformer blocks.
      num_heads: attention heads; must divide the width of the vectors.
      max_length: learned positions; items further on share the last one.
      positions: learned vectors of positions counted "from_start" or "from_end" of the history,
        "rotary" turns of queries and keys, or "relative" biases of attention by distance. In use
        the last position predicts, of which a training sequence holds one example: "from_end"
        trains that position rarely.
      time_buckets: buckets of the time between events, each with a bias of its own for "relative"
        positions; 0 for observations without times.
      dropout: share that is dropped of the inputs and inside the blocks.
      norm: where layer norms stand, see :data:`~recjax.nn.attention.Norm`.
      expansion: see :class:`~recjax.nn.attention.TransformerBlock`.
      activation: see there.
      dtype: of the computation; parameters are float32.

    References:
      Kang, McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018.
    """

    num_blocks: int = 1
    num_heads: int = 2
    max_length: int = 256
    positions: Positions = "from_start"
    time_buckets: int = 0
    dropout: float = 0.0
    norm: Norm = "pre"
    expansion: int = 4
    activation: Activation = "gelu"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, vectors: Array, mask: Array, *, every_position: bool = False, time: Array | None = None
    ) -> Array:
        """See :class:`recjax.nn.HistoryEncoder`."""
        x, bias = with_positions(self, vectors, mask, time)
        x = dropout(self, self.dropout, x)
        x = transformer(self, x, causal_mask(mask), bias, every_position)
        if self.norm != "post":
            x = nn.LayerNorm(dtype=self.dtype, name="norm")(x)
        return x if every_position else x[:, -1]


def causal_mask(mask: Array) -> Array:
    """The positions that each attends to, ``bool[B, 1, L, L]``: those of the history, up to itself."""
    length = mask.shape[-1]
    return mask[:, None, None, :] & jnp.tril(jnp.ones((length, length), bool))[None, None]


def with_positions(module: Any, vectors: Array, mask: Array, time: Array | None) -> tuple[Array, Array | None]:
    """The input of an encoder of blocks: ``(vectors with learned positions, relative bias)``, where it has these.

    Raises:
      ValueError: a field of the encoder is out of range.
    """
    length, dim = vectors.shape[-2:]
    check_encoder(module)
    bias = relative_bias(module, length, time)
    x = jnp.where(mask[:, :, None], vectors.astype(module.dtype), 0)
    if module.positions in ("from_start", "from_end"):
        x = x + learned_positions(module, mask, dim)
    return x, bias


def transformer(module: Any, x: Array, visible: Array, bias: Array | None, every_position: bool) -> Array:
    """The transformer blocks ``block_0``, ``block_1``, … of an encoder; the last one may be at the last position alone.

    Args:
      module: the encoder, whose fields say what the blocks are.
      x: ``[B, L, D]``.
      visible: ``bool[B, 1, L, L]``, or one row for all positions, ``bool[B, 1, 1, L]``.
      bias: see :class:`~recjax.nn.attention.RelativeBias`.
      every_position: whether all positions of the result are read.

    Returns:
      ``[B, L, D]`` or ``[B, 1, D]``.
    """
    visible = jnp.broadcast_to(visible, (len(x), 1, x.shape[1], x.shape[1]))
    for index in range(module.num_blocks):
        only_last = index == module.num_blocks - 1 and not every_position
        block = TransformerBlock(
            module.num_heads,
            dropout=module.dropout,
            norm=module.norm,
            expansion=module.expansion,
            activation=module.activation,
            rotary=module.positions == "rotary",
            dtype=module.dtype,
            name=f"block_{index}",
        )
        x = block(x, visible[:, :, -1:] if only_last else visible, bias)
    return x


def learned_positions(module: Any, mask: Array, dim: int) -> Array:
    """Learned vectors ``[B or 1, L, D]`` of positions, the parameter ``position`` of ``module``."""
    table = module.param("position", nn.initializers.normal(0.02), (module.max_length, dim)).astype(module.dtype)
    length = mask.shape[-1]
    if module.positions == "from_end":
        return table[jnp.minimum(jnp.arange(length - 1, -1, -1), module.max_length - 1)][None]
    # A padded position has no number; what it adds is not seen.
    from_start = jnp.cumsum(mask, axis=1) - 1
    return table[jnp.clip(from_start, 0, module.max_length - 1)]


def relative_bias(module: Any, length: int, time: Array | None) -> Array | None:
    """The :class:`RelativeBias` of an encoder of blocks, None where its positions are others."""
    if module.positions != "relative":
        return None
    return RelativeBias(module.num_heads, module.max_length, module.time_buckets, name="relative")(length, time)


def check_encoder(module: Any) -> None:
    """Raises ValueError where a field of an encoder of blocks is out of range."""
    name = type(module).__name__
    if module.num_blocks < 1:
        raise ValueError(f"{name}.num_blocks is {module.num_blocks}; it must be at least 1.")
    if module.positions not in get_args(Positions):
        raise ValueError(f"{name}.positions is {module.positions!r}; choose one of {get_args(Positions)}.")
    if not 0 <= module.dropout < 1:
        raise ValueError(f"{name}.dropout is {module.dropout}; it must lie in [0, 1).")


def make_history_encoder(encoder: str | Callable[..., nn.Module], **options: Any) -> HistoryEncoder:
    """The encoder of a name in ``history_encoders``, or that a function makes.

    Args:
      encoder: a name, class, or function such as ``functools.partial(SelfAttentionEncoder, num_heads=4)``.
      **options: further fields of the encoder, such as ``dtype`` and ``name``.

    Raises:
      ValueError: there is no encoder of that name, or what was made is none.
    """
    made = (history_encoders[encoder] if isinstance(encoder, str) else encoder)(**options)
    if not isinstance(made, HistoryEncoder):
        raise ValueError(f"The encoder {encoder!r} made a {type(made).__name__}; derive it from nn.HistoryEncoder.")
    return made
