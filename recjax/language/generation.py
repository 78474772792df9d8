"""Greedy decoding."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from recjax.language.model import LanguageModel
from recjax.language.transformer import Transformer, empty_cache
from recjax.types import Array, PyTree


def generate(model: LanguageModel, prompt_ids: Sequence[Sequence[int]], num_tokens: int) -> np.ndarray:
    """Greedy decoding: the most likely next token, ``num_tokens`` times over.

    Keys and values are cached, so a further token costs one pass of one token. It does not stop at an end-of-text
    token; cut the result there.

    Args:
      model: a decoder.
      prompt_ids: ids of each prompt, at least one; they may differ in length.
      num_tokens: at least 1.

    Returns:
      ``i32[B, num_tokens]``.

    Raises:
      ValueError: the model is no decoder, a prompt is empty or holds ids that the model does not
        know, or prompt and continuation are longer than the model's texts.
    """
    if not model.config.traits.causal:
        raise ValueError(f"generate needs a decoder, gpt2 or llama, but the model is a {model.config.family}.")
    if num_tokens < 1:
        raise ValueError(f"num_tokens is {num_tokens}; it must be at least 1.")
    prompts = [np.asarray(ids, np.int32) for ids in prompt_ids]
    for index, ids in enumerate(prompts):
        if ids.ndim != 1 or len(ids) == 0:
            raise ValueError(f"prompt_ids[{index}] has shape {ids.shape}; a prompt is a list of at least one id.")
        if ids.min() < 0 or ids.max() >= model.config.vocab_size:
            raise ValueError(f"prompt_ids[{index}] holds ids outside of 0 to {model.config.vocab_size - 1}.")
    longest = max(map(len, prompts))
    if longest + num_tokens > model.config.max_length:
        raise ValueError(
            f"A prompt of {longest} tokens and {num_tokens} more are above the {model.config.max_length} that the"
            " model's texts have; shorten them."
        )
    padded = np.zeros((len(prompts), longest), np.int32)
    mask = np.zeros(padded.shape, bool)
    for row, ids in enumerate(prompts):
        padded[row, longest - len(ids) :], mask[row, longest - len(ids) :] = ids, True
    return np.asarray(_continue(model.module, model.params, jnp.asarray(padded), jnp.asarray(mask), num_tokens))


@functools.partial(jax.jit, static_argnames=("module", "num_tokens"))
def _continue(module: Transformer, params: PyTree, ids: Array, mask: Array, num_tokens: int) -> Array:
    batch_size, length = ids.shape
    mask = jnp.pad(mask, ((0, 0), (0, num_tokens)))
    cache = empty_cache(module.config, batch_size, length + num_tokens, module.dtype)

    def read(ids: Array, mask: Array, cache: PyTree, start: Array | int) -> tuple[Array, PyTree]:
        made: Any = module.apply(params, ids, mask, cache, start, method="extend")
        hidden, cache = made
        logits: Any = module.apply(params, hidden[:, -1:], method="logits")
        return jnp.argmax(logits[:, 0], axis=-1).astype(jnp.int32), cache

    def step(carry: PyTree, slot: Array) -> tuple[PyTree, Array]:
        token, mask, cache = carry
        mask = mask.at[:, slot].set(True)
        following, cache = read(token[:, None], mask, cache, slot)
        return (following, mask, cache), token

    first, cache = read(ids, mask, cache, 0)
    (last, _, _), tokens = jax.lax.scan(step, (first, mask, cache), length + jnp.arange(num_tokens - 1))
    return jnp.concatenate([tokens.T, last[:, None]], axis=1)
