"""How well a language model knows texts."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from recjax.language.corpus import count_targets, read_examples
from recjax.language.encoding import padded, padded_batches
from recjax.language.model import LanguageModel
from recjax.language.objectives import (
    Objective,
    Vocabulary,
    answer_nats,
    causal_nats,
    check_objective,
    masked_nats,
    open_gaps,
    vocabulary,
)
from recjax.language.transformer import Transformer
from recjax.types import Array, PyTree


def evaluate_text(
    model: LanguageModel,
    texts: Sequence[Any],
    objective: Objective,
    *,
    key: Array | None = None,
    mask_share: float = 0.15,
    batch_size: int = 32,
) -> float:
    """The mean of ``-log p(token)`` over what is told.

    That is the gaps ("masked"), all tokens but the first of each text ("causal"), or those of the answers ("answers").

    Gaps follow from ``key`` and the place of the text in ``texts`` alone, so models that share a tokenizer
    are asked the same. There is no dropout.

    Args:
      model: with a tokenizer, and a head.
      texts: those without a token to tell are left out; for "answers" pairs of a prompt and an answer.
      objective: "masked", "causal" or "answers".
      key: of the gaps; ``jax.random.key(0)`` by default.
      mask_share: of tokens that are gaps.
      batch_size: texts at once.

    Returns:
      Nats a token; its exponential is the perplexity.

    Raises:
      ValueError: the model cannot be asked; ``batch_size`` or ``mask_share`` cannot be; there is nothing
        to tell in the texts; something is not a text.
    """
    if objective not in ("masked", "causal", "answers"):
        raise ValueError(f"objective is {objective!r}; a loss in nats a token is that of masked, causal or answers.")
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be at least 1.")
    if not 0 < mask_share <= 1:
        raise ValueError(f"mask_share is {mask_share}; it must lie in (0, 1], e.g. 0.15.")
    check_objective(model, objective)
    fields = read_examples(model, texts, objective)
    known = vocabulary(model) if objective == "masked" else None
    targets = count_targets(fields, objective, known, mask_share)
    if not targets.any():
        raise ValueError(f"None of the {len(texts)} texts has a token to tell; give longer ones.")
    key = jax.random.key(0) if key is None else key
    total = 0.0
    for rows, ids, mask in padded_batches(fields[0], batch_size, model.config.max_length):
        index = np.zeros(batch_size, np.int32)
        index[: len(rows)] = rows
        answers = None
        if objective == "answers":
            answers = padded([fields[1][row] for row in rows], batch_size, int(targets.max()))
        total += float(_nats(model.module, model.params, ids, mask, known, answers, key, index, mask_share))
    return total / float(targets.sum())


@functools.partial(jax.jit, static_argnames=("module", "mask_share"))
def _nats(
    module: Transformer, params: PyTree, ids: Array, mask: Array, known: Vocabulary | None,
    answers: tuple[Array, Array] | None, key: Array, index: Array, mask_share: float,
) -> Array:  # fmt: skip
    if answers is not None:
        return answer_nats(module, params, ids, mask, *answers).sum()
    if known is None:
        return causal_nats(module, params, ids, mask).sum()
    keys = jax.vmap(functools.partial(jax.random.fold_in, key))(index)
    gaps = jax.vmap(lambda key, ids, mask: open_gaps(key, ids, mask, known, mask_share))(keys, ids, jnp.asarray(mask))
    return masked_nats(module, params, gaps, mask).sum()
