"""Blocks of sequence models: attention, feed-forward layers, positions.

Dropout is on where the caller gives a key (``module.apply(..., rngs={"dropout": key})``),
and off without one, so that the same call serves training and use.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp

from recjax.types import Array

Activation = Literal["gelu", "relu", "silu"]
"""Of feed-forward layers."""

Norm = Literal["pre", "post", "query"]
"""Where layer norms stand: before each sublayer, after its residual sum, or as in SASRec's code.

With "query", the queries of attention are normed vectors and its keys and values raw ones, and both residual
sums start from normed vectors, so that the sums of the blocks before do not outweigh an event.
"""

SMALL = nn.initializers.normal(0.02)
"""What a sublayer adds is small at the start, so that a block begins near the identity (as GPT-2 does)."""


def dropout(module: nn.Module, rate: float, x: Array, name: str | None = None) -> Array:
    """Dropout inside a compact method of ``module``, on where a ``dropout`` key was given."""
    if rate == 0.0 or not module.has_rng("dropout"):
        return x
    return nn.Dropout(rate, deterministic=False, name=name)(x)


def rotate(x: Array, positions: Array, base: float = 10_000.0) -> Array:
    """Rotary positions: turns pairs of features by angles in proportion to the position.

    Inner products of turned queries and keys depend on the difference of positions only.

    Args:
      x: ``[..., L, H, D]`` with even ``D``; feature ``i`` is paired with ``i + D / 2``.
      positions: integers ``[L]``, or ``[B, L]`` where sequences have positions of their own.
      base: the slowest pair turns by about ``1 / base`` a position.

    References:
      Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021.
    """
    half = x.shape[-1] // 2
    frequency = base ** (-jnp.arange(half) / half)
    angle = jnp.expand_dims(positions, (-2, -1)) * jnp.expand_dims(frequency, tuple(range(positions.ndim + 1)))
    angle = angle.reshape((1,) * (x.ndim - angle.ndim) + angle.shape)
    cos, sin = jnp.cos(angle).astype(x.dtype), jnp.sin(angle).astype(x.dtype)
    first, second = x[..., :half], x[..., half:]
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def attend(
    module: nn.Module, rate: float, query: Array, key: Array, value: Array, visible: Array, bias: Array | None = None
) -> Array:
    """``softmax(query key' / sqrt(d) + bias) value`` inside a compact method of ``module``.

    Args:
      module: whose ``dropout`` key drops attention weights.
      rate: share of attention weights that are dropped.
      query: ``[B, Q, H, d]``.
      key: ``[B, L, K, d]``, where ``K`` divides ``H``: heads that follow each other share a key.
      value: ``[B, L, K, d]``.
      visible: ``bool[B, 1, Q, L]``; a row that sees nothing has a finite result.
      bias: ``f32[B or 1, H, Q, L]``, added to the logits.

    Returns:
      ``[B, Q, H, d]``.
    """
    if rate == 0.0 or not module.has_rng("dropout"):
        return jax.nn.dot_product_attention(query, key, value, bias, mask=visible)
    num_heads, head = query.shape[-2:]
    key, value = (jnp.repeat(x, num_heads // x.shape[-2], axis=-2) for x in (key, value))
    logits = jnp.einsum("bqhd,bkhd->bhqk", query, key).astype(jnp.float32) * head**-0.5
    weights = _weights(module, rate, logits, visible, bias).astype(query.dtype)
    return jnp.einsum("bhqk,bkhd->bqhd", weights, value)


class Projection(NamedTuple):
    """A linear map to heads.

    Attributes:
      kernel: ``[D, H, d]``.
      bias: ``[H, d]``.
    """

    kernel: Array
    bias: Array

    def of(self, x: Array) -> Array:
        """``[..., H, d]`` of ``[..., D]``."""
        projected = jnp.tensordot(x.astype(self.kernel.dtype), self.kernel, 1)
        return projected + jnp.broadcast_to(self.bias, projected.shape)


class Heads(nn.Module):
    """The parameters of a linear map to heads, named and drawn as ``flax.linen.DenseGeneral`` does.

    Attributes:
      num_heads: heads.
      head: width of a head.
      dtype: of the computation; parameters are float32.
    """

    num_heads: int
    head: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, dim: int) -> Projection:
        """The map of vectors of ``dim`` features."""
        heads = (self.num_heads, self.head)
        kernel = self.param("kernel", nn.initializers.lecun_normal(in_axis=0, out_axis=(1, 2)), (dim, *heads))
        bias = self.param("bias", nn.initializers.zeros, heads)
        return Projection(kernel.astype(self.dtype), bias.astype(self.dtype))


def attend_once(
    module: nn.Module,
    rate: float,
    query: Array,
    key: Projection,
    value: Projection,
    x: Array,
    visible: Array,
    bias: Array | None = None,
) -> Array:
    """:func:`attend` for one query a sequence, without making keys and values of its ``L`` positions.

    The softmax does not see the last term of ``query' (K x + b) = (K' query)' x + query' b``, and the sum of weighted
    values is the value of the weighted sum. So a head takes ``2 L D`` products where keys and values take ``2 L D d``.

    Args:
      module: whose ``dropout`` key drops attention weights.
      rate: share of attention weights that are dropped.
      query: ``[B, 1, H, d]``.
      key: how keys are made of ``x``.
      value: how values are.
      x: ``[B, L, D]``.
      visible: ``bool[B, 1, 1, L]``; a row that sees nothing has a finite result.
      bias: ``f32[B or 1, H, 1, L]``, added to the logits.

    Returns:
      ``[B, 1, H, d]``.
    """
    asked = jnp.einsum("bqhd,nhd->bhqn", query, key.kernel)
    logits = jnp.einsum("bhqn,bln->bhql", asked, x).astype(jnp.float32) * query.shape[-1] ** -0.5
    weights = _weights(module, rate, logits, visible, bias).astype(x.dtype)
    read = jnp.einsum("bhql,bln->bhqn", weights, x)
    total = weights.sum(-1)[:, :, :, None]
    return (jnp.einsum("bhqn,nhd->bhqd", read, value.kernel) + total * value.bias[None, :, None]).swapaxes(1, 2)


def _weights(module: nn.Module, rate: float, logits: Array, visible: Array, bias: Array | None) -> Array:
    logits = logits if bias is None else logits + bias
    return dropout(module, rate, nn.softmax(jnp.where(visible, logits, jnp.finfo(jnp.float32).min)))


class RelativeBias(nn.Module):
    """Biases of attention by the distance of two events, in steps and in time.

    Attributes:
      num_heads: attention heads.
      max_length: distances that have a weight of their own; larger ones share the last.
      time_buckets: buckets of the time between events, see :func:`time_bucket`; 0 without times.

    References:
      Shaw et al., "Self-Attention with Relative Position Representations", NAACL 2018; for
      time, Zhai et al., "Actions Speak Louder than Words", ICML 2024.
    """

    num_heads: int
    max_length: int = 256
    time_buckets: int = 0

    @nn.compact
    def __call__(self, length: int, time: Array | None = None) -> Array:
        """``f32[1, H, L, L]``, or ``f32[B, H, L, L]`` with ``time: i32[B, L]`` in seconds: query by key."""
        furthest = self.max_length - 1
        # Row 0 is for keys that are ``furthest`` or more steps later, the last row for those as much earlier.
        steps = self.param("steps", nn.initializers.normal(0.02), (2 * furthest + 1, self.num_heads))
        apart = jnp.arange(length)[:, None] - jnp.arange(length)[None, :]
        bias = steps[furthest + jnp.clip(apart, -furthest, furthest)].transpose(2, 0, 1)[None]
        if not self.time_buckets:
            return bias
        if time is None:
            raise ValueError(
                f"RelativeBias.time_buckets is {self.time_buckets}, but the observation has no time;"
                " give Observation(time=...) or set time_buckets=0."
            )
        seconds = self.param("seconds", nn.initializers.normal(0.02), (self.time_buckets, self.num_heads))
        bucket = time_bucket(time[:, :, None] - time[:, None, :], self.time_buckets)
        return bias + seconds[bucket].transpose(0, 3, 1, 2)


def time_bucket(seconds: Array, buckets: int) -> Array:
    """The bucket ``i32[...]`` of a time: half the powers of two, so that 64 reach over 130 years.

    >>> time_bucket(jnp.array([0, 1, 60, 86_400]), 64)
    Array([ 0,  1, 12, 33], dtype=int32)
    """
    log = 2 * jnp.log2(jnp.maximum(jnp.abs(seconds), 1).astype(jnp.float32))
    bucket = jnp.where(seconds == 0, 0, 1 + log.astype(jnp.int32))
    return jnp.minimum(bucket, buckets - 1)


class SelfAttention(nn.Module):
    """Multi-head attention of the last ``Q`` positions to all positions.

    Attributes:
      num_heads: attention heads; must divide the width.
      dropout: share of attention weights that are dropped.
      rotary: whether queries and keys carry rotary positions.
      dtype: of the computation; parameters are float32.

    References:
      Vaswani et al., "Attention Is All You Need", NeurIPS 2017.
    """

    num_heads: int
    dropout: float = 0.0
    rotary: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, visible: Array, bias: Array | None = None, asking: Array | None = None) -> Array:
        """Attends.

        Args:
          x: ``[B, L, D]``.
          visible: ``bool[B, 1, Q, L]``; a row that sees nothing has a finite result.
          bias: ``f32[B or 1, H, L, L]``, added to the logits, see :class:`RelativeBias`.
          asking: ``[B, Q, D]`` what queries are made of; by default the last positions of ``x``.

        Returns:
          ``[B, Q, D]``.
        """
        (length, dim), num_queries = x.shape[-2:], visible.shape[-2]
        head = dim // self.num_heads
        if dim % self.num_heads or (self.rotary and head % 2):
            need = "; rotary positions need heads of even width" if self.rotary else ""
            raise ValueError(
                f"num_heads is {self.num_heads}, which does not divide the width {dim} of the vectors{need};"
                " choose a divisor."
            )

        query, key, value = (
            Heads(self.num_heads, head, self.dtype, name=name)(dim) for name in ("query", "key", "value")
        )
        queries = query.of(x[:, -num_queries:] if asking is None else asking)
        bias = None if bias is None else bias[:, :, -num_queries:]
        if num_queries == 1 and not self.rotary:
            attended = attend_once(self, self.dropout, queries, key, value, x.astype(self.dtype), visible, bias)
        else:
            keys = key.of(x)
            if self.rotary:
                positions = jnp.arange(length)
                queries, keys = rotate(queries, positions[-num_queries:]), rotate(keys, positions)
            attended = attend(self, self.dropout, queries, keys, value.of(x), visible, bias)
        return nn.DenseGeneral(dim, axis=(-2, -1), kernel_init=SMALL, dtype=self.dtype, name="out")(attended)


class TransformerBlock(nn.Module):
    """Attention and a feed-forward layer, each with a residual sum, for the last ``Q`` positions.

    Attributes:
      num_heads: attention heads.
      dropout: share that is dropped of attention weights and of what each sublayer adds.
      norm: where the layer norms stand, ``"pre"``, ``"post"`` or ``"query"``, see :data:`Norm`.
      expansion: width of the feed-forward layer over that of the vectors.
      activation: of the feed-forward layer, "gelu" (by its approximation with tanh), "relu" or "silu".
      rotary: see :class:`SelfAttention`.
      dtype: of the computation; parameters are float32.
    """

    num_heads: int
    dropout: float = 0.0
    norm: Norm = "pre"
    expansion: int = 4
    activation: Activation = "gelu"
    rotary: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, visible: Array, bias: Array | None = None) -> Array:
        """``[B, Q, D]``; the arguments are those of :class:`SelfAttention`."""
        if self.norm not in get_args(Norm):
            raise ValueError(f"TransformerBlock.norm is {self.norm!r}; choose one of {get_args(Norm)}.")
        if self.activation not in get_args(Activation):
            raise ValueError(
                f"TransformerBlock.activation is {self.activation!r}; choose one of {get_args(Activation)}."
            )
        activate = getattr(nn, self.activation)
        attention_norm = nn.LayerNorm(dtype=self.dtype, name="attention_norm")
        feed_forward_norm = nn.LayerNorm(dtype=self.dtype, name="feed_forward_norm")
        attend = SelfAttention(self.num_heads, self.dropout, self.rotary, self.dtype, name="attention")

        def feed_forward(x: Array) -> Array:
            wide = nn.Dense(self.expansion * x.shape[-1], dtype=self.dtype, name="wide")(x)
            wide = dropout(self, self.dropout, activate(wide))
            return nn.Dense(x.shape[-1], kernel_init=SMALL, dtype=self.dtype, name="narrow")(wide)

        recent = x[:, -visible.shape[-2] :]
        if self.norm == "query":
            asking = attention_norm(recent)
            x = feed_forward_norm(asking + dropout(self, self.dropout, attend(x, visible, bias, asking)))
            return x + dropout(self, self.dropout, feed_forward(x))
        if self.norm == "pre":
            x = recent + dropout(self, self.dropout, attend(attention_norm(x), visible, bias))
            return x + dropout(self, self.dropout, feed_forward(feed_forward_norm(x)))
        x = attention_norm(recent + dropout(self, self.dropout, attend(x, visible, bias)))
        return feed_forward_norm(x + dropout(self, self.dropout, feed_forward(x)))
