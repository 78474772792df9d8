"""Answers of decoders to prompts: the log-probabilities of a few answers, and prompts that ask for a preference."""

from __future__ import annotations

import functools
import string
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from recjax.language.corpus import read_prompts
from recjax.language.encoding import padded, padded_batches
from recjax.language.model import LanguageModel
from recjax.language.objectives import check_objective
from recjax.language.transformer import Transformer, empty_cache
from recjax.types import Array, PyTree

PREFERENCE = "The user liked: {liked}.\nThe user disliked: {disliked}.\nWill the user like {candidate}? Answer:"
"""The default template of :func:`preference_prompt`; " Yes" and " No" are answers to it."""


def preference_prompt(liked: Sequence[str], disliked: Sequence[str], candidate: str, template: str = PREFERENCE) -> str:
    """The prompt whether a user who liked and disliked some items will like another.

    >>> print(preference_prompt(["Alien", "Heat"], [], "Toy Story"))
    The user liked: "Alien", "Heat".
    The user disliked: nothing.
    Will the user like "Toy Story"? Answer:

    Args:
      liked: titles.
      disliked: titles.
      candidate: a title.
      template: with ``{liked}``, ``{disliked}`` and ``{candidate}``, of which only the last must occur.

    Raises:
      ValueError: the template has other fields, or does not ask for the candidate.

    References:
      Bao et al., "TALLRec: An Effective and Efficient Tuning Framework to Align Large Language
      Model with Recommendation", RecSys 2023; the words are others.
    """
    fields = {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
    if "candidate" not in fields or not fields <= {"liked", "disliked", "candidate"}:
        raise ValueError(
            f"template has the fields {sorted(fields)}; it needs {{candidate}} and may have {{liked}} and {{disliked}};"
            " write other braces twice."
        )
    return template.format(liked=_listed(liked), disliked=_listed(disliked), candidate=_listed([candidate]))


def _listed(titles: Sequence[str]) -> str:
    return ", ".join(f'"{title}"' for title in titles) or "nothing"


def score_answers(
    model: LanguageModel,
    prompts: Sequence[str],
    answers: Sequence[str],
    *,
    normalize: bool = False,
    batch_size: int = 32,
) -> np.ndarray:
    """The log-probability of each answer after each prompt, the sum over its tokens.

    A prompt is read once, however many answers there are, and answers are tokenised apart from it: an answer that
    begins a word begins with a space. Prompts that are too long are cut at their beginning, since the question is at
    the end.

    >>> from recjax import language
    >>> tokenizer = language.train_wordpiece(["will it rain ? yes no"], vocab_size=60, max_length=16)
    >>> shape = {"dim": 8, "num_layers": 2, "num_heads": 2, "feed_forward": 16}
    >>> config = language.LanguageConfig("gpt2", vocab_size=60, max_length=16, **shape)
    >>> model = language.initialize(config, jax.random.key(0), tokenizer)
    >>> scores = score_answers(model, ["Will it rain?", "Rain?"], [" Yes", " No"], normalize=True)
    >>> scores.shape, np.exp(scores).sum(axis=1).round(3).tolist()
    ((2, 2), [1.0, 1.0])

    Args:
      model: a decoder with a tokenizer.
      prompts: ``N`` of them.
      answers: ``A`` of them. Longer answers are less likely, so compare answers of like length.
      normalize: whether the probabilities of the answers add up to 1 for each prompt.
      batch_size: prompts at once.

    Returns:
      ``f32[N, A]``, natural logarithms.

    Raises:
      ValueError: the model is no decoder or has no tokenizer; there is no answer; a prompt or an answer is not a
        text or has no tokens; an answer leaves no room for a prompt; ``batch_size`` is below 1.
    """
    check_objective(model, "answers")
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be at least 1.")
    asked, said = read_prompts(model, prompts, answers)
    if not said:
        raise ValueError("answers is empty; give one or more, such as (' Yes', ' No').")
    tails = padded(said, len(said), max(map(len, said)))
    scores = np.zeros((len(asked), len(said)), np.float32)
    for rows, ids, mask in padded_batches(asked, batch_size, model.config.max_length):
        scores[rows] = _log_probs(model.module, model.params, ids, mask, *tails)[: len(rows)]
    return scores - np.logaddexp.reduce(scores, axis=1, keepdims=True) if normalize else scores


@functools.partial(jax.jit, static_argnames="module")
def _log_probs(
    module: Transformer, params: PyTree, ids: Array, mask: Array, answers: Array, answer_mask: Array
) -> Array:
    """``f32[B, A]`` of prompts ``[B, T]`` and answers ``[A, K]``, whose keys and values follow in the same cache."""
    (batch_size, length), unread = ids.shape, answers.shape[1] - 1
    seen = jnp.pad(mask, ((0, 0), (0, unread)))
    cache = empty_cache(module.config, batch_size, length + unread, module.dtype)
    read: Any = module.apply(params, ids, seen, cache, 0, method="extend")
    asked, cache = read
    asked = jnp.take_along_axis(asked, mask.sum(axis=1)[:, None, None] - 1, axis=1, mode="clip")

    def log_prob(answer: tuple[Array, Array]) -> Array:
        tokens, present = answer
        hidden = asked
        if unread:  # Nothing follows the last token.
            known = jnp.broadcast_to(tokens[:-1], (batch_size, unread))
            slots = seen.at[:, length:].set(present[:-1])
            read: Any = module.apply(params, known, slots, cache, length, method="extend")
            hidden = jnp.concatenate([asked, read[0]], axis=1)
        logits: Any = module.apply(params, hidden, method="logits")
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.broadcast_to(tokens, hidden.shape[:2]))
        return -jnp.where(present, losses, 0).sum(axis=1)

    return jax.lax.map(log_prob, (answers, answer_mask)).T
