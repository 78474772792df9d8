"""Held-out loss and perplexity of language models."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from recjax.language.corpus import count_targets, read_examples
from recjax.language.encoding import padded, padded_batches
from recjax.language.model import LanguageModel
from recjax.language.objectives import (
    Objective,
    Vocabulary,
    answer_lm_loss,
    causal_lm_loss,
    check_objective,
    mask_tokens,
    masked_lm_loss,
    vocabulary,
)
from recjax.language.transformer import Transformer
from recjax.types import Array, PyTree


class TextEvaluation(NamedTuple):
    """How likely texts are to a language model.

    >>> round(TextEvaluation(loss=math.log(50), num_tokens=7).perplexity, 9)
    50.0

    Attributes:
      loss: the mean negative log-likelihood per token, in nats.
      num_tokens: how many tokens it is the mean of.
    """

    loss: float
    num_tokens: int

    @property
    def perplexity(self) -> float:
        """The exponential of the loss; infinite where that is beyond a float."""
        try:
            return math.exp(self.loss)
        except OverflowError:
            return math.inf


def evaluate_text(
    model: LanguageModel,
    texts: Sequence[Any],
    objective: Objective,
    *,
    key: Array | None = None,
    mask_share: float = 0.15,
    batch_size: int = 32,
) -> TextEvaluation:
    """The mean negative log-likelihood per token of held-out texts, and their perplexity.

    The tokens are the masked ones ("masked", whose exponential is known as pseudo-perplexity), all but the first of
    each text ("causal"), or those of the answers ("answers"). Masks follow from ``key`` and the place of the text in
    ``texts`` alone, so models that share a tokenizer are compared on the same tokens. There is no dropout.

    Args:
      model: with a tokenizer, and a head.
      texts: those without such a token are left out; for "answers" pairs of a prompt and an answer.
      objective: "masked", "causal" or "answers".
      key: of the masks; ``jax.random.key(0)`` by default.
      mask_share: of the tokens that are masked.
      batch_size: texts at once.

    Raises:
      ValueError: the model does not fit the objective; ``batch_size`` or ``mask_share`` is out of range; no text has a
        token to predict; something is not a text.
    """
    if objective not in ("masked", "causal", "answers"):
        raise ValueError(f"objective is {objective!r}; a loss per token is that of masked, causal or answers.")
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be at least 1.")
    if not 0 < mask_share <= 1:
        raise ValueError(f"mask_share is {mask_share}; it must lie in (0, 1], e.g. 0.15.")
    check_objective(model, objective)
    fields = read_examples(model, texts, objective)
    maskable = vocabulary(model) if objective == "masked" else None
    targets = count_targets(fields, objective, maskable, mask_share)
    if not targets.any():
        raise ValueError(f"None of the {len(texts)} texts has a token to predict; give longer ones.")
    key = jax.random.key(0) if key is None else key
    total = 0.0
    for rows, ids, mask in padded_batches(fields[0], batch_size, model.config.max_length):
        index = np.zeros(batch_size, np.int32)
        index[: len(rows)] = rows
        answers = None
        if objective == "answers":
            answers = padded([fields[1][row] for row in rows], batch_size, int(targets.max()))
        total += float(_loss(model.module, model.params, ids, mask, maskable, answers, key, index, mask_share))
    return TextEvaluation(total / float(targets.sum()), int(targets.sum()))


@functools.partial(jax.jit, static_argnames=("module", "mask_share"))
def _loss(
    module: Transformer, params: PyTree, ids: Array, mask: Array, maskable: Vocabulary | None,
    answers: tuple[Array, Array] | None, key: Array, index: Array, mask_share: float,
) -> Array:  # fmt: skip
    """The sum over a batch."""
    if answers is not None:
        return answer_lm_loss(module, params, ids, mask, *answers).sum()
    if maskable is None:
        return causal_lm_loss(module, params, ids, mask).sum()
    keys = jax.vmap(functools.partial(jax.random.fold_in, key))(index)
    mask_one = lambda key, ids, mask: mask_tokens(key, ids, mask, maskable, mask_share)  # noqa: E731
    masked = jax.vmap(mask_one)(keys, ids, jnp.asarray(mask))
    return masked_lm_loss(module, params, masked, mask).sum()
