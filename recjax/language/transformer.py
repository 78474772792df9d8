"""The transformer of the three families, as pure functions of parameters.

Hidden states are ``[B, T, D]``; ``mask: bool[B, T]`` is False at padding, on whichever side it is. Neither the
place nor the amount of padding changes the states of tokens. Parameters of layers are stacked along their first axis
and the layers are scanned, so that compiling does not take longer for more of them.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from recjax.language.config import LanguageConfig
from recjax.nn.attention import attend, dropout, rotate
from recjax.types import Array, PyTree

_ACTIVATIONS = {
    "gelu": lambda x: nn.gelu(x, approximate=False), "gelu_tanh": nn.gelu, "relu": nn.relu, "silu": nn.silu,
}  # fmt: skip


class KeyValueCache(NamedTuple):
    """Cached keys and values of the tokens read so far, for each layer.

    Attributes:
      key: ``[layers, B, S, K, d]``.
      value: ``[layers, B, S, K, d]``.
    """

    key: Array
    value: Array


class _Where(NamedTuple):
    """Arguments of all layers: ``positions i32[B, T]``, ``visible bool[B, 1, T, S]``, the first slot of the cache."""

    positions: Array
    visible: Array
    start: Array | int


def _norm(config: LanguageConfig, dtype: Any, name: str | None = None) -> nn.Module:
    if config.traits.rms_norm:
        return nn.RMSNorm(epsilon=config.norm_eps, dtype=dtype, name=name)
    # E[x^2] - E[x]^2 in float32 loses what the comparison with PyTorch asks for.
    return nn.LayerNorm(epsilon=config.norm_eps, use_fast_variance=False, dtype=dtype, name=name)


def _dense(config: LanguageConfig, features: int, bias: bool, dtype: Any, name: str | None = None) -> nn.Dense:
    init = nn.initializers.normal(config.initializer_range)
    return nn.Dense(features, use_bias=bias, kernel_init=init, dtype=dtype, name=name)


class Attention(nn.Module):
    """Multi-head attention in which groups of queries may share keys and values.

    Attributes:
      config: of the model.
      dtype: of the computation.
    """

    config: LanguageConfig
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, where: _Where, cache: KeyValueCache | None) -> tuple[Array, KeyValueCache | None]:
        """``(x [B, T, D], ..., keys and values [B, S, K, d] of this layer) -> ([B, T, D], the same with x)``."""
        c = self.config

        def heads(name: str, count: int) -> Array:
            projected = _dense(c, count * c.head_dim, c.attention_bias, self.dtype, name)(x)
            return projected.reshape(*x.shape[:2], count, c.head_dim)

        query, key, value = heads("query", c.num_heads), heads("key", c.num_kv_heads), heads("value", c.num_kv_heads)
        if c.traits.rotary:
            query, key = (rotate(z, where.positions, c.rope_theta) for z in (query, key))
        if cache is not None:
            key, value = (
                jax.lax.dynamic_update_slice_in_dim(old, new.astype(old.dtype), where.start, axis=1)
                for old, new in ((cache.key, key), (cache.value, value))
            )
            cache = KeyValueCache(key, value)
        attended = attend(self, c.attention_dropout, query, key, value, where.visible)
        attended = attended.reshape(*x.shape[:2], c.num_heads * c.head_dim)
        return _dense(c, c.dim, c.attention_bias, self.dtype, "out")(attended), cache


class FeedForward(nn.Module):
    """``down(act(up(x)))``, gated where the family is.

    Attributes:
      config: of the model.
      dtype: of the computation.
    """

    config: LanguageConfig
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """``[B, T, D] -> [B, T, D]``."""
        c = self.config
        activate = _ACTIVATIONS[c.activation]
        up = _dense(c, c.feed_forward, c.feed_forward_bias, self.dtype, "up")(x)
        if c.traits.gated:
            up = activate(_dense(c, c.feed_forward, c.feed_forward_bias, self.dtype, "gate")(x)) * up
        else:
            up = activate(up)
        return _dense(c, c.dim, c.feed_forward_bias, self.dtype, "down")(up)


class Layer(nn.Module):
    """A transformer layer: attention and a feed-forward layer, each with a residual sum.

    Attributes:
      config: of the model.
      dtype: of the computation.
    """

    config: LanguageConfig
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, where: _Where, cache: KeyValueCache | None) -> tuple[Array, KeyValueCache | None]:
        """See :class:`Attention`."""
        c = self.config
        attention = Attention(c, self.dtype, name="attention")
        feed_forward = FeedForward(c, self.dtype, name="feed_forward")
        attention_norm = _norm(c, self.dtype, "attention_norm")
        feed_forward_norm = _norm(c, self.dtype, "feed_forward_norm")
        if c.traits.pre_norm:
            added, cache = attention(attention_norm(x), where, cache)
            x = x + dropout(self, c.dropout, added)
            return x + dropout(self, c.dropout, feed_forward(feed_forward_norm(x))), cache
        added, cache = attention(x, where, cache)
        x = attention_norm(x + dropout(self, c.dropout, added))
        return feed_forward_norm(x + dropout(self, c.dropout, feed_forward(x))), cache


class MaskedTokenHead(nn.Module):
    """BERT's masked language modelling head: a transform, and inner products with the word embeddings.

    Attributes:
      config: of the model.
      dtype: of the computation.
    """

    config: LanguageConfig
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, hidden: Array, words: Array) -> Array:
        """``([..., D], words [V, D]) -> [..., V]``."""
        c = self.config
        x = _ACTIVATIONS[c.activation](_dense(c, c.dim, True, self.dtype, "transform")(hidden))
        x = _norm(c, self.dtype, "norm")(x)
        bias = self.param("bias", nn.initializers.zeros, (c.vocab_size,)).astype(self.dtype)
        return x @ words.T + jnp.expand_dims(bias, tuple(range(x.ndim - 1)))


class Transformer(nn.Module):
    """A language model without its tokenizer: ids to hidden states, hidden states to logits.

    Attributes:
      config: of the model.
      dtype: of the computation; parameters stay float32.
      remat: whether layers are recomputed in the backward pass (gradient checkpointing).

    Dropout is on where a ``dropout`` key is given, see :mod:`recjax.nn.attention`.

    >>> config = LanguageConfig("llama", vocab_size=50, dim=8, num_layers=2, num_heads=2, feed_forward=16, max_length=9)
    >>> module, ids = Transformer(config), jnp.array([[3, 1, 4]])
    >>> params = module.init(jax.random.key(0), ids)
    >>> hidden = module.apply(params, ids)
    >>> hidden.shape, module.apply(params, hidden, method="logits").shape
    ((1, 3, 8), (1, 3, 50))
    """

    config: LanguageConfig
    dtype: Any = jnp.float32
    remat: bool = False

    def setup(self) -> None:
        """Names the parts; those of a family that has none of them hold no parameters."""
        c = self.config
        init = nn.initializers.normal(c.initializer_range)
        self.words = nn.Embed(c.vocab_size, c.dim, embedding_init=init)
        if not c.traits.rotary:
            self.positions = nn.Embed(c.max_length, c.dim, embedding_init=init)
        if c.family == "bert":
            self.types = nn.Embed(c.num_types, c.dim, embedding_init=init)
            self.head: Any = MaskedTokenHead(c, self.dtype)
        elif not c.tie_embeddings:
            self.head = _dense(c, c.vocab_size, False, self.dtype)
        if c.traits.pre_norm:
            self.final_norm = _norm(c, self.dtype)
        else:
            self.embedding_norm = _norm(c, self.dtype)
        self.embedding_dropout = nn.Dropout(c.embedding_dropout)
        layer = nn.remat(Layer, prevent_cse=False) if self.remat else Layer
        self.layers = nn.scan(
            layer, variable_axes={"params": 0}, split_rngs={"params": True, "dropout": True},
            in_axes=(nn.broadcast, 0), out_axes=0, length=c.num_layers,
        )(c, self.dtype)  # fmt: skip

    def __call__(self, ids: Array, mask: Array | None = None, types: Array | None = None) -> Array:
        """The last hidden states.

        Args:
          ids: ``i32[B, T]``.
          mask: ``bool[B, T]``, False at padding; none by default.
          types: ``i32[B, T]`` segments of BERT; 0 by default.

        Returns:
          ``[B, T, D]``; finite and unspecified at padding.

        Raises:
          ValueError: there are more tokens than learned positions.
        """
        hidden = self.run(self.embed(ids, mask, types), mask)
        if self.is_initializing():
            self.logits(hidden)
        return hidden

    def embed(self, ids: Array, mask: Array | None = None, types: Array | None = None) -> Array:
        """The input of the first layer, ``[B, T, D]``; the arguments are those of the call."""
        mask = jnp.ones(ids.shape, bool) if mask is None else mask
        return self._embed(ids, _positions(mask), types)

    def run(self, hidden: Array, mask: Array | None = None, *, closing: bool = True) -> Array:
        """All layers, on hidden states; see :func:`run_layers` for some of them.

        Args:
          hidden: ``[B, T, D]``.
          mask: see the call.
          closing: whether the norm behind the last layer follows, in families that have one.

        Returns:
          ``[B, T, D]``.
        """
        mask = jnp.ones(hidden.shape[:2], bool) if mask is None else mask
        hidden = hidden.astype(self.dtype)  # Cached states may have another.
        visible = mask[:, None, None, :]
        if self.config.traits.causal:
            visible = visible & _not_later(jnp.arange(mask.shape[1]), mask.shape[1])
        visible = jnp.broadcast_to(visible, (len(mask), 1, mask.shape[1], mask.shape[1]))
        hidden, _ = self.layers(hidden, _Where(_positions(mask), visible, 0), None)
        return self.final_norm(hidden) if closing and self.config.traits.pre_norm else hidden

    def logits(self, hidden: Array) -> Array:
        """Scores of the tokens, ``f32[B, T, V]``: of the next one for decoders, of a masked one for BERT.

        Args:
          hidden: ``[B, T, D]``, the last hidden states.
        """
        words = self.words.embedding.astype(self.dtype)
        if self.config.family == "bert":
            return self.head(hidden, words).astype(jnp.float32)
        scores = hidden.astype(self.dtype) @ words.T if self.config.tie_embeddings else self.head(hidden)
        return scores.astype(jnp.float32)

    def extend(self, ids: Array, mask: Array, cache: KeyValueCache, start: Array | int) -> tuple[Array, KeyValueCache]:
        """Reads further tokens of texts whose keys and values are cached.

        Args:
          ids: ``i32[B, T]``, which stand at ``start .. start + T - 1`` of the cache.
          mask: ``bool[B, S]``, True at slots of the cache that hold tokens, these included.
          cache: of the tokens before, see :func:`empty_cache`.
          start: how many slots are taken.

        Returns:
          The last hidden states ``[B, T, D]`` of ``ids``, and the cache with them.
        """
        slots = start + jnp.arange(ids.shape[1])
        positions = jnp.take(_positions(mask), slots, axis=1)
        visible = mask[:, None, None, :] & _not_later(slots, mask.shape[1])
        hidden = self._embed(ids, positions, None)
        read: Any = self.layers(hidden, _Where(positions, visible, start), cache)
        hidden, cache = read
        return self.final_norm(hidden), cache

    def _embed(self, ids: Array, positions: Array, types: Array | None) -> Array:
        c = self.config
        x = self.words(ids)
        if not c.traits.rotary:
            if ids.shape[1] > c.max_length:
                raise ValueError(
                    f"The texts have {ids.shape[1]} tokens, but the model has {c.max_length} positions; truncate them."
                )
            x = x + self.positions(positions)
        if c.family == "bert":
            x = x + self.types(jnp.zeros_like(ids) if types is None else types)
        x = x.astype(self.dtype) if c.traits.pre_norm else self.embedding_norm(x)
        return self.embedding_dropout(x, deterministic=not self.has_rng("dropout"))


def run_layers(
    module: Transformer, params: PyTree, hidden: Array, mask: Array, first: int = 0, last: int | None = None,
    **apply: Any,
) -> Array:  # fmt: skip
    """Runs layers ``first .. last - 1`` on given hidden states.

    The output of the lower layers can so be computed once while those above are trained: the parameters of both are
    parts of one stack, see :func:`slice_layers`.

    Args:
      module: the whole model.
      params: of the whole model.
      hidden: ``[B, T, D]``, the input of layer ``first``.
      mask: ``bool[B, T]``.
      first: counts from 0.
      last: exclusive; all by default. The norm behind the last layer belongs to it.
      **apply: further arguments of Flax's ``apply``, such as ``rngs``.

    Returns:
      ``[B, T, D]``.

    Raises:
      ValueError: there are no such layers.
    """
    num_layers = module.config.num_layers
    last = num_layers if last is None else last
    part = slice_layers(params, first, last)
    module = module.clone(config=dataclasses.replace(module.config, num_layers=last - first))
    made: Any = module.apply(part, hidden, mask, closing=last == num_layers, method="run", **apply)
    return made


def slice_layers(params: PyTree, first: int, last: int) -> PyTree:
    """The parameters with layers ``first .. last - 1`` of the stack only; the others are shared.

    Raises:
      ValueError: there are no such layers.
    """
    layers = params["params"]["layers"]
    num_layers = len(jax.tree.leaves(layers)[0])
    if not 0 <= first < last <= num_layers:
        raise ValueError(f"Layers {first} to {last} of {num_layers}: need 0 <= first < last <= {num_layers}.")
    return {"params": {**params["params"], "layers": jax.tree.map(lambda leaf: leaf[first:last], layers)}}


def in_layers(path: tuple[str, ...]) -> bool:
    """Whether the parameter at a path has a leading axis of layers, for :mod:`recjax.fit`.

    ``fit.lora(8, lambda path: path[-2:] == ("query", "kernel"), stacked=in_layers)`` changes the queries of each layer.
    """
    return "layers" in path


def in_embeddings(path: tuple[str, ...]) -> bool:
    """Whether the parameter at a path is of the embeddings: words, positions, segments and their norm."""
    return any(part in path for part in ("words", "positions", "types", "embedding_norm"))


def empty_cache(config: LanguageConfig, batch_size: int, slots: int, dtype: Any = jnp.float32) -> KeyValueCache:
    """An empty cache for the keys and values of ``slots`` tokens of each text."""
    shape = (config.num_layers, batch_size, slots, config.num_kv_heads, config.head_dim)
    return KeyValueCache(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))


def _positions(mask: Array) -> Array:
    """How many tokens stand before each, ``i32[B, T]``; padding has the position of what stands before it."""
    return jnp.maximum(jnp.cumsum(mask, axis=1, dtype=jnp.int32) - 1, 0)


def _not_later(queries: Array, slots: int) -> Array:
    """Which slots each query may see, ``bool[1, 1, T, S]``: its own and those before it."""
    return (jnp.arange(slots)[None, :] <= queries[:, None])[None, None]
