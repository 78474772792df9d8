"""Augmentation of texts: synonyms, deletion, swaps and insertion of words (EDA), and back-translation.

Words are separated by blanks. A text with words never loses all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from recjax.language.tokens import check_texts

Synonyms: TypeAlias = Mapping[str, Sequence[str]]
"""From a word, as it occurs in texts or in lower case, to its synonyms."""

Translator: TypeAlias = Callable[[list[str]], Sequence[str]]
"""A batch of texts to their translations, in order."""


def replace_synonyms(text: str, rng: np.random.Generator, synonyms: Synonyms, share: float = 0.1) -> str:
    """Replaces ``share`` of the words, rounded, at least one, by synonyms; fewer if fewer have any.

    >>> replace_synonyms("a great film", np.random.default_rng(0), {"film": ["movie"]})
    'a great movie'
    """
    _check_synonyms(synonyms)
    return _with_synonyms(text, rng, synonyms, share)


def _with_synonyms(text: str, rng: np.random.Generator, synonyms: Synonyms, share: float) -> str:
    words = text.split()
    known = [index for index, word in enumerate(words) if _synonyms(word, synonyms)]
    if not known:
        return text
    for index in rng.permutation(known)[: _count(words, share)]:
        words[index] = _pick(rng, _synonyms(words[index], synonyms))
    return " ".join(words)


def delete_words(text: str, rng: np.random.Generator, share: float = 0.1) -> str:
    """Deletes each word with probability ``share``; one, chosen at random, stays if none would.

    >>> delete_words("a great film", np.random.default_rng(0), 1.0)
    'a'
    """
    words = text.split()
    if not words:
        return text
    left = [word for word, lot in zip(words, rng.random(len(words)), strict=True) if lot >= share]
    return " ".join(left or [_pick(rng, words)])


def swap_words(text: str, rng: np.random.Generator, share: float = 0.1) -> str:
    """Swaps two random words, as many times as ``share`` of the words, rounded, at least once.

    >>> swap_words("great film", np.random.default_rng(0))
    'film great'
    """
    words = text.split()
    if len(words) < 2:
        return text
    for _ in range(_count(words, share)):
        one, other = rng.choice(len(words), 2, replace=False)
        words[one], words[other] = words[other], words[one]
    return " ".join(words)


def insert_synonyms(text: str, rng: np.random.Generator, synonyms: Synonyms, share: float = 0.1) -> str:
    """Inserts synonyms of the text's words at random places, ``share`` of the words, rounded, at least one.

    >>> insert_synonyms("a film", np.random.default_rng(0), {"film": ["movie"]})
    'a film movie'
    """
    _check_synonyms(synonyms)
    return _with_further_synonyms(text, rng, synonyms, share)


def _with_further_synonyms(text: str, rng: np.random.Generator, synonyms: Synonyms, share: float) -> str:
    words = text.split()
    known = [word for word in words if _synonyms(word, synonyms)]
    if not known:
        return text
    for _ in range(_count(words, share)):
        words.insert(int(rng.integers(len(words) + 1)), _pick(rng, _synonyms(_pick(rng, known), synonyms)))
    return " ".join(words)


def easy_augment(
    texts: Sequence[str], rng: np.random.Generator, synonyms: Synonyms | None = None, *, share: float = 0.1
) -> list[str]:
    """Easy data augmentation: each text changed in one of four ways at random, two of which need synonyms.

    >>> easy_augment(["a great film", ""], np.random.default_rng(1), {"film": ["movie"]})
    ['a film great', '']

    Args:
      texts: ``N`` of them.
      rng: the same generator in the same state gives the same.
      synonyms: of words; without them words are deleted or swapped alone.
      share: of the words that change.

    Returns:
      ``N`` texts.

    Raises:
      ValueError: ``share`` is not in [0, 1]; a synonym is blank; something is not a text.

    References:
      Wei, Zou, "EDA: Easy Data Augmentation Techniques for Boosting Performance on Text
      Classification Tasks", EMNLP 2019.
    """
    check_texts(texts)
    if not 0 <= share <= 1:
        raise ValueError(f"share is {share}; it must lie in [0, 1], e.g. 0.1.")
    known = synonyms or {}
    _check_synonyms(known)  # Once, as there may be many of them.
    ways: list[Callable[[str], str]] = [
        lambda text: delete_words(text, rng, share),
        lambda text: swap_words(text, rng, share),
    ]
    if known:
        ways.append(lambda text: _with_synonyms(text, rng, known, share))
        ways.append(lambda text: _with_further_synonyms(text, rng, known, share))
    return [ways[rng.integers(len(ways))](text) for text in texts]


def back_translate(texts: Sequence[str], there: Translator, back: Translator, *, batch_size: int = 32) -> list[str]:
    """Back-translation: texts translated into another language and back.

    Whatever translates is up to the caller: a model or a service. Texts without words are not sent; one
    that comes back without words is given back as it was.

    >>> back_translate(["a great film"], lambda batch: ["ein toller Film"], lambda batch: ["an awesome film"])
    ['an awesome film']

    Args:
      texts: ``N`` of them.
      there: into the other language.
      back: out of it.
      batch_size: texts at once.

    Returns:
      ``N`` texts.

    Raises:
      ValueError: ``batch_size`` is below 1; a translator gives back more or fewer texts than it was given, or
        something else than texts.

    References:
      Sennrich et al., "Improving Neural Machine Translation Models with Monolingual Data", ACL 2016.
    """
    check_texts(texts)
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be at least 1.")
    found = list(texts)
    sent = [index for index, text in enumerate(texts) if text.strip()]
    for start in range(0, len(sent), batch_size):
        chosen = sent[start : start + batch_size]
        batch = [texts[index] for index in chosen]
        for name, translate in (("there", there), ("back", back)):
            answer = list(translate(batch))
            if len(answer) != len(batch):
                raise ValueError(f"{name} gave {len(answer)} texts for {len(batch)}; it must give one for each.")
            check_texts(answer)
            batch = answer
        for index, text in zip(chosen, batch, strict=True):
            found[index] = text if text.strip() else texts[index]
    return found


def _check_synonyms(synonyms: Synonyms) -> None:
    for word, others in synonyms.items():
        if isinstance(others, str) or any(not other.strip() for other in others):
            raise ValueError(f"synonyms[{word!r}] is {others!r}; it must be a list of words, none of them blank.")


def _synonyms(word: str, synonyms: Synonyms) -> Sequence[str]:
    return synonyms.get(word) or synonyms.get(word.lower(), ())


def _count(words: list[str], share: float) -> int:
    return max(1, round(share * len(words)))


def _pick(rng: np.random.Generator, choices: Sequence[str]) -> str:
    return choices[int(rng.integers(len(choices)))]
