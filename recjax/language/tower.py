"""A language model as the encoder of items: frozen, or trained along with a recommender."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from recjax import catalogue
from recjax.language.config import LanguageConfig
from recjax.language.encoding import padded_batches
from recjax.language.model import LanguageModel
from recjax.language.pooling import Pooling, pool
from recjax.language.transformer import Transformer, run_layers, slice_layers
from recjax.nn import OncePerItem
from recjax.types import PAD_ID, Array, Feature, Items, PyTree


class TextTower(nn.Module):
    """Vectors of texts from their tokens: the encoder of features of kind "tokens" and "token_states".

    Attributes:
      config: of the language model; its ``num_layers`` are those that are run.
      pooling: how the states of tokens become one vector.
      normalize: whether vectors are brought to norm 1, as sentence encoders were trained with.
      remat: whether layers are computed again in the backward pass.
      dtype: of the computation; parameters are float32.
    """

    config: LanguageConfig
    pooling: Pooling = "mean"
    normalize: bool = True
    remat: bool = False
    dtype: Any = jnp.float32

    def setup(self) -> None:
        """Declares the parameters."""
        self.language = Transformer(self.config, self.dtype, self.remat)

    def __call__(self, values: Array | dict[str, Array]) -> Array:
        """Vectors of texts.

        Args:
          values: ``i32[M, T]`` tokens, padded with ``PAD_ID``; or a dictionary of these ("tokens") and of
            what the lower layers make of them, ``[M, T, H]`` ("states").

        Returns:
          ``f32[M, H]``; zeros for a text without tokens.
        """
        tokens = values["tokens"] if isinstance(values, dict) else values
        mask = tokens != PAD_ID
        if isinstance(values, dict):
            hidden = self.language.run(values["states"], mask)
        else:
            hidden = self.language.run(self.language.embed(jnp.where(mask, tokens, 0), mask), mask)
        vectors = pool(hidden, mask, self.pooling)
        return catalogue.normalize(vectors) if self.normalize else vectors


def text_tower(model: LanguageModel, *, first: int = 0, **options: Any) -> OncePerItem:
    """A language model, or its layers from ``first`` on, as the encoder of a feature of :func:`with_tokens`.

    Give it to an item tower by the name of the feature, ``encoders={"text": text_tower(model)}``. Its parameters
    stand below ``item/encoder``, those of the adaptor behind it below ``item/adapt``.

    >>> from recjax import nn
    >>> from recjax.types import Observation
    >>> from recjax import language
    >>> titles = ["The Third Man", "The Second Woman", "Third Person"]
    >>> tokenizer = language.train_wordpiece(titles, vocab_size=60, max_length=16)
    >>> shape = {"dim": 8, "num_layers": 2, "num_heads": 2, "feed_forward": 16}
    >>> config = language.LanguageConfig("bert", vocab_size=60, max_length=16, **shape)
    >>> model = language.initialize(config, jax.random.key(0), tokenizer)
    >>> items = Items(popularity=jnp.ones(3), is_new=jnp.zeros(3, bool))
    >>> items = with_tokens(items, model, titles, first=1)  # the lower layer is computed once
    >>> item = nn.ItemTower(3, dim=4, use_id=False, encoders={"text": text_tower(model, first=1)})
    >>> network = nn.Recommendation(item=item, user=nn.UserTower(dim=4))
    >>> observation = Observation(history=jnp.array([[0, 2]]), behaviour=jnp.array([[1, 1]]))
    >>> params = with_language(network.init(jax.random.key(1), observation, items), model, first=1)
    >>> network.apply(params, observation, items).shape
    (1, 3)

    Args:
      model: whose shape it has; :func:`with_language` gives it its weights.
      first: layers below are not run, see :func:`with_tokens`.
      **options: fields of :class:`TextTower`; ``dtype`` and ``remat`` are the model's by default.

    Raises:
      ValueError: there are no such layers.
    """
    _check_first(model, first)
    config = dataclasses.replace(model.config, num_layers=model.config.num_layers - first)
    own = {"dtype": model.module.dtype, "remat": model.module.remat}
    return OncePerItem(functools.partial(TextTower, config, **own | options))


def with_tokens(
    items: Items,
    model: LanguageModel,
    texts: Sequence[str],
    *,
    first: int = 0,
    max_tokens: int | None = None,
    dtype: Any = jnp.float32,
    name: str = "text",
) -> Items:
    """Items with the tokens of their texts, and with what the layers below ``first`` make of them.

    The feature is of kind "tokens", or with ``first`` of kind "token_states". The states of lower layers are
    computed once for the whole catalogue, ``N * T * H`` numbers, so that training costs the upper layers alone.

    Args:
      items: ``N`` of them.
      model: with a tokenizer.
      texts: one an item.
      first: how many lower layers are computed here; none by default.
      max_tokens: tokens of a text, special ones among them; the longest text's by default.
      dtype: of the states, e.g. ``jnp.bfloat16`` for half of the memory.
      name: of the feature.

    Raises:
      ValueError: there is not one text an item, the model has no tokenizer, or there are no such layers.
    """
    if len(texts) != items.num_items:
        raise ValueError(f"There are {len(texts)} texts of {items.num_items} items; give one text an item.")
    _check_first(model, first)
    tokenizer = model.need_tokenizer()
    if max_tokens is not None:
        tokenizer = dataclasses.replace(tokenizer, max_length=min(max_tokens, tokenizer.max_length))
    tokens = tokenizer(list(texts))
    longest = max(map(len, tokens), default=0) or 1
    ids = np.full((len(tokens), longest), PAD_ID, np.int32)
    for row, found in enumerate(tokens):
        ids[row, : len(found)] = found
    if first == 0:
        return items.with_features(**{name: Feature(jnp.asarray(ids), "tokens")})
    states = {"tokens": jnp.asarray(ids), "states": _states(model, tokens, longest, first, dtype)}
    return items.with_features(**{name: Feature(states, "token_states")})


def with_language(params: PyTree, model: LanguageModel, *, first: int = 0) -> PyTree:
    """``params`` of a network with the weights of a language model in its text tower.

    Args:
      params: as ``network.init`` returns them, of a network made with :func:`text_tower` and the same ``first``.
      model: where the weights come from; its head, which makes logits, is left out.
      first: see :func:`text_tower`.

    Raises:
      ValueError: the network has no text tower, or one of another shape.
    """
    item = params["params"]["item"]
    if "language" not in item.get("encoder", {}):
        raise ValueError(
            "The network has no TextTower; give its ItemTower encoders={'text': language.text_tower(model, ...)}."
        )
    source = slice_layers(model.params, first, model.config.num_layers)["params"]
    own = item["encoder"]["language"]
    language = {name: source[name] for name in own if name in source}
    if jax.tree.map(jnp.shape, language) != jax.tree.map(jnp.shape, own):
        raise ValueError(
            f"The text tower of the network has other shapes than the model's layers from {first} on;"
            f" build it with encoders={{'text': language.text_tower(model, first={first})}}."
        )
    encoder = {**item["encoder"], "language": language}
    return {**params, "params": {**params["params"], "item": {**item, "encoder": encoder}}}


def _states(model: LanguageModel, tokens: list[np.ndarray], longest: int, first: int, dtype: Any) -> Array:
    """What layer ``first`` reads of every text, ``[N, T, H]``, zeros at padding."""
    states = np.zeros((len(tokens), longest, model.config.dim), dtype)
    lower = jax.jit(functools.partial(_run_lower, model.module, first=first))
    for rows, ids, mask in padded_batches(tokens, 32, model.config.max_length):
        made = np.asarray(lower(model.params, ids, mask))[: len(rows), :longest]
        states[rows, : made.shape[1]] = made
    return jnp.asarray(states)


def _run_lower(module: Transformer, params: PyTree, ids: Array, mask: Array, *, first: int) -> Array:
    embedded: Any = module.apply(params, ids, mask, method="embed")
    hidden = run_layers(module, params, embedded, mask, last=first)
    return jnp.where(mask[..., None], hidden, 0)


def _check_first(model: LanguageModel, first: int) -> None:
    if not 0 <= first < model.config.num_layers:
        raise ValueError(f"first is {first}; the model has layers 0 to {model.config.num_layers - 1}.")
