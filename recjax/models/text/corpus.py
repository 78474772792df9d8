"""Tokens of many texts on the device, and batches of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from recjax.models.text.model import LanguageModel
from recjax.models.text.objectives import Vocabulary, num_gaps
from recjax.models.text.tokens import check_texts
from recjax.types import Array


@struct.dataclass
class Corpus:
    """Examples of one text, or of ``F`` that belong together.

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


def columns(texts: Sequence[Any], pairs: bool) -> tuple[list[str], ...]:
    """The texts in one list, or pairs of them in two.

    Raises:
      ValueError: something is not a text, or not a pair of texts; says which.
    """
    if not pairs:
        check_texts(texts)
        return (list(texts),)
    for index, pair in enumerate(texts):
        if isinstance(pair, str) or len(pair) != 2:
            raise ValueError(f"texts[{index}] is {pair!r}; objective 'pairs' needs two texts for each example.")
    first, second = ([pair[side] for pair in texts] for side in (0, 1))
    check_texts(first)
    check_texts(second)
    return first, second


def make_corpus(
    model: LanguageModel, texts: tuple[list[str], ...], targets: np.ndarray, tokens: list[np.ndarray], buckets: int
) -> tuple[Corpus, tuple[int, ...]]:
    """The examples that have targets, and the lengths to pad them to.

    Args:
      model: whose positions bound the lengths.
      texts: ``F`` lists of ``N``.
      targets: ``i32[N]``, how much there is to learn from each example.
      tokens: of all texts, ``F * N``.
      buckets: how many lengths at most.

    Raises:
      ValueError: no example has a target.
    """
    if not targets.any():
        raise ValueError(
            f"None of the {len(targets)} examples has enough tokens to learn from; give texts that the tokenizer knows."
        )
    lengths = np.array([len(found) for found in tokens]).reshape(len(texts), -1)
    starts = np.cumsum(lengths.ravel()).reshape(lengths.shape) - lengths
    kept = np.flatnonzero(targets)
    lengths, starts = lengths[:, kept], starts[:, kept]
    longest = lengths.max(axis=0)
    # Lengths that cut the examples into parts of like size, rounded up to whole vectors of a processor.
    cuts = np.quantile(longest, np.linspace(0, 1, buckets + 1)[1:], method="higher")
    padded = np.unique(np.minimum(-(-cuts // 8) * 8, model.config.max_length)).astype(np.int32)
    arrays = (np.concatenate(tokens), starts, lengths, np.searchsorted(padded, longest))
    return Corpus(*(jnp.asarray(array, jnp.int32) for array in arrays)), tuple(padded.tolist())


def count_targets(tokens: list[np.ndarray], vocabulary: Vocabulary | None, share: float) -> np.ndarray:
    """``i32[N]``, what there is to tell in each text: its gaps, or without a vocabulary all tokens but the first."""
    if vocabulary is None:
        return np.array([max(len(found) - 1, 0) for found in tokens], np.int32)
    is_ordinary = np.asarray(jax.device_get(vocabulary.is_ordinary))
    return num_gaps([is_ordinary[found].sum() for found in tokens], share)
