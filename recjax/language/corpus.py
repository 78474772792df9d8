"""Tokenised corpora on the device, and batches of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from recjax.language.model import LanguageModel
from recjax.language.objectives import Objective, Vocabulary, num_masked
from recjax.language.tokens import check_texts
from recjax.types import Array


@struct.dataclass
class Corpus:
    """Training examples of one text, or of ``F`` texts that belong together.

    Attributes:
      tokens: ``i32[total]`` of all texts, one after the other.
      starts: ``i32[F, N]`` where each text begins.
      lengths: ``i32[F, N]`` how many tokens each has.
      bucket: ``i32[N]`` the shortest of the padded lengths that holds the texts of each example.
    """

    tokens: Array
    starts: Array
    lengths: Array
    bucket: Array

    def window(self, indices: Array, length: int) -> tuple[Array, Array]:
        """``ids i32[F, B, length], mask bool[F, B, length]`` of examples; longer texts are cut."""
        at = jnp.arange(length)[None, None]
        mask = at < self.lengths[:, indices, None]
        ids = self.tokens.at[self.starts[:, indices, None] + at].get(mode="clip")
        return jnp.where(mask, ids, 0), mask


def read_examples(model: LanguageModel, texts: Sequence[Any], objective: Objective) -> list[list[np.ndarray]]:
    """The tokens of ``N`` examples as ``F`` lists of texts.

    One list for most objectives, one for each side of "pairs", and for "answers" the prompts, each followed by
    its answer, and the answers alone.

    Raises:
      ValueError: something is not a text, or not a pair of texts; says which. See also :func:`read_prompts`.
    """
    found = columns(texts, objective in ("pairs", "answers"), objective)
    if objective == "answers":
        prompts, answers = read_prompts(model, *found)
        return [[np.concatenate(both) for both in zip(prompts, answers, strict=True)], answers]
    return [model.need_tokenizer()(field) for field in found]


def read_prompts(
    model: LanguageModel, prompts: Sequence[str], answers: Sequence[str]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The tokens of prompts and of answers that may follow them.

    Both are tokenised apart, so an answer that begins a word begins with a space. Prompts leave room for the
    longest answer and are cut at their beginning, since the question stands at the end.

    Raises:
      ValueError: something is not a text, or has no tokens; no room is left for prompts.
    """
    check_texts(prompts, "prompts")
    check_texts(answers, "answers")
    tokenizer = model.need_tokenizer()
    said, opening = tokenizer.without_special(answers), tokenizer.opening
    for index, ids in enumerate(said):
        if len(ids) == 0:
            raise ValueError(
                f"answers[{index}] is {answers[index]!r}, which has no tokens; give a text such as ' Yes'."
            )
    most, longest = min(tokenizer.max_length, model.config.max_length), max(map(len, said), default=0)
    room = most - longest - len(opening)
    if room < 1:
        raise ValueError(
            f"An answer has {longest} tokens, which leaves no room for a prompt in the {most} tokens of a text; give"
            " shorter answers."
        )
    asked = [np.concatenate([opening, ids[-room:]]) for ids in tokenizer.without_special(prompts)]
    for index, ids in enumerate(asked):
        if len(ids) == 0:
            raise ValueError(f"prompts[{index}] is {prompts[index]!r}, which has no tokens; give a text that asks.")
    return asked, said


def columns(texts: Sequence[Any], pairs: bool, objective: str) -> tuple[list[str], ...]:
    """The texts as one list, or pairs of texts as two.

    Raises:
      ValueError: something is not a text, or not a pair of texts; says which.
    """
    if not pairs:
        check_texts(texts)
        return (list(texts),)
    for index, pair in enumerate(texts):
        if isinstance(pair, str) or len(pair) != 2:
            raise ValueError(f"texts[{index}] is {pair!r}; objective {objective!r} needs two texts for each example.")
    first, second = ([pair[side] for pair in texts] for side in (0, 1))
    check_texts(first)
    check_texts(second)
    return first, second


def make_corpus(
    model: LanguageModel, fields: list[list[np.ndarray]], targets: np.ndarray, num_buckets: int
) -> tuple[Corpus, tuple[int, ...]]:
    """The corpus of the examples that have targets, and the lengths of its buckets.

    Args:
      model: whose positions bound the lengths.
      fields: see :func:`read_examples`.
      targets: ``i32[N]``, how many targets each example has.
      num_buckets: how many lengths at most.

    Raises:
      ValueError: no example has a target.
    """
    if not targets.any():
        raise ValueError(
            f"None of the {len(targets)} examples has enough tokens to learn from; give texts that the tokenizer knows."
        )
    lengths = _lengths(fields)
    starts = np.cumsum(lengths.ravel()).reshape(lengths.shape) - lengths
    trained = np.flatnonzero(targets)
    lengths, starts = lengths[:, trained], starts[:, trained]
    longest = lengths.max(axis=0)
    # Lengths that cut the examples into parts of like size, rounded up to whole vectors of a processor.
    cuts = np.quantile(longest, np.linspace(0, 1, num_buckets + 1)[1:], method="higher")
    padded = np.unique(np.minimum(-(-cuts // 8) * 8, model.config.max_length)).astype(np.int32)
    arrays = (
        np.concatenate([ids for field in fields for ids in field]),
        starts,
        lengths,
        np.searchsorted(padded, longest),
    )
    return Corpus(*(jnp.asarray(array, jnp.int32) for array in arrays)), tuple(padded.tolist())


def count_targets(
    fields: list[list[np.ndarray]], objective: Objective, vocabulary: Vocabulary | None, share: float
) -> np.ndarray:
    """``i32[N]``, the targets of each example: its masked tokens, next tokens, tokens of the answer, or its partner."""
    lengths = _lengths(fields)
    if objective == "masked":
        assert vocabulary is not None
        is_ordinary = np.asarray(jax.device_get(vocabulary.is_ordinary))
        return num_masked([is_ordinary[found].sum() for found in fields[0]], share)
    if objective == "causal":
        return np.maximum(lengths[0, :] - 1, 0)
    if objective == "answers":
        return lengths[1, :]
    return np.asarray((lengths > 0).all(axis=0), np.int32)


def _lengths(fields: list[list[np.ndarray]]) -> np.ndarray:
    return np.array([[len(ids) for ids in field] for field in fields], np.int32)
