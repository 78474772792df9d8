"""Tokenisation of texts, by the ``tokenizers`` of Hugging Face."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recjax.language.extra import require


@dataclasses.dataclass(frozen=True)
class TextTokenizer:
    """A tokenizer that does not pad and truncates to a length of its own.

    Attributes:
      backend: a ``tokenizers.Tokenizer``, which is copied; its own padding and truncation are turned off.
      max_length: tokens of a text, special tokens included; longer texts are cut at the end, inside the special tokens
        around them.
      parse_special: whether the text of a special token, such as "[SEP]" in a title, is that token; by default it is
        text like any other. Prompts with the markers of a chat need it.
    """

    backend: Any
    max_length: int
    parse_special: bool = False

    def __post_init__(self) -> None:
        # A copy, as options of the backend are set.
        object.__setattr__(self, "backend", copy.deepcopy(self.backend))
        self.backend.encode_special_tokens = not self.parse_special
        self.backend.no_padding()
        special = self.backend.num_special_tokens_to_add(is_pair=False)
        if self.max_length <= special:
            raise ValueError(
                f"TextTokenizer.max_length is {self.max_length}; it must be above {special}, the special tokens of a"
                " text."
            )
        self.backend.enable_truncation(self.max_length)

    def __call__(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The ids ``i32[length]`` of each text; a text may have none.

        Raises:
          ValueError: something is not a text, or has no UTF-8; says which.
        """
        check_texts(texts)
        return [np.array(found.ids, np.int32) for found in self.backend.encode_batch(list(texts))]

    def without_special(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The ids ``i32[length]`` of each text without special tokens around it, however long it is."""
        check_texts(texts)
        found = self.backend.encode_batch(list(texts), add_special_tokens=False)
        # The backend returns the rest of a long text in pieces.
        pieces = [[part.ids for part in (one, *one.overflowing)] for one in found]
        return [np.array(list(itertools.chain(*parts)), np.int32) for parts in pieces]

    @property
    def opening(self) -> np.ndarray:
        """``i32[n]``, the special tokens before a text, such as the beginning-of-text token of a Llama; often none."""
        found = self.backend.encode("a")
        return np.array(found.ids[: found.special_tokens_mask.index(0)], np.int32)

    @property
    def special_ids(self) -> tuple[int, ...]:
        """Tokens that stand for no text, such as those of beginnings, padding and masks; ascending."""
        return tuple(sorted(i for i, token in self.backend.get_added_tokens_decoder().items() if token.special))

    @property
    def mask_id(self) -> int | None:
        """The mask token, ``[MASK]`` or ``<mask>``; None where there is none, as in decoders."""
        found = (self.backend.token_to_id(name) for name in ("[MASK]", "<mask>"))
        return next((index for index in found if index is not None), None)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of tokens, without the special ones."""
        return self.backend.decode([int(i) for i in ids])

    def to_json(self) -> str:
        """The content of a ``tokenizer.json``."""
        return self.backend.to_str()


def check_texts(texts: Sequence[str], name: str = "texts") -> None:
    """Raises ValueError, with the name of the texts, where one is not a text that can be written as UTF-8."""
    if isinstance(texts, str):
        raise ValueError(f"{name} is one string, {texts[:40]!r}; give a list of them.")
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(f"{name}[{index}] is {text!r}, a {type(text).__name__}; every text must be a str.")
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError(f"{name}[{index}] cannot be written as UTF-8: {error}; repair how it was read.") from None


def read_tokenizer(path: Path, max_length: int) -> TextTokenizer:
    """Reads a ``tokenizer.json``.

    Raises:
      ValueError: it is not UTF-8 or not the description of a tokenizer.
    """
    tokenizers = require("tokenizers")
    content = read_text(path)
    try:
        backend = tokenizers.Tokenizer.from_str(content)
    except Exception as error:  # The package raises nothing more specific.
        raise ValueError(f"{path} does not describe a tokenizer: {error}") from None
    return TextTokenizer(backend, max_length)


def train_wordpiece(texts: Iterable[str], vocab_size: int, max_length: int) -> TextTokenizer:
    """Trains a lower-case WordPiece tokenizer with BERT's special tokens, for models from scratch.

    The same texts give the same vocabulary in every process.

    Args:
      texts: the corpus.
      vocab_size: tokens at most, unless the special ones and the letters of the texts are more.
      max_length: see :class:`TextTokenizer`.

    Raises:
      ValueError: something is not a text, or has no UTF-8; says which.

    References:
      Schuster, Nakajima, "Japanese and Korean Voice Search", ICASSP 2012.
    """
    tokenizers = require("tokenizers")
    texts = list(texts)
    check_texts(texts)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    splitter = tokenizers.pre_tokenizers.BertPreTokenizer()
    # The trainer breaks ties between merges by the ids of their parts, and numbers the continuing letters as it meets
    # them in a hash table of random order; letters that are given to it have ids in the order in which they are given.
    words = {word for text in texts for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))}
    continuing = sorted({f"##{letter}" for word in words for letter in word[1:]})
    trained = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    trained.normalizer, trained.pre_tokenizer = normalizer, splitter
    trainer = tokenizers.trainers.WordPieceTrainer(
        vocab_size=vocab_size, special_tokens=special + continuing, min_frequency=1, show_progress=False
    )
    trained.train_from_iterator(texts, trainer)
    # Anew, since the continuing letters are no special tokens.
    backend = tokenizers.Tokenizer(tokenizers.models.WordPiece(trained.get_vocab(), unk_token="[UNK]"))
    backend.add_special_tokens(special)
    backend.normalizer, backend.pre_tokenizer = normalizer, splitter
    backend.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    backend.decoder = tokenizers.decoders.WordPiece()
    return TextTokenizer(backend, max_length)


def read_text(path: Path) -> str:
    """The content of a UTF-8 file.

    Raises:
      ValueError: it is not UTF-8; names the line.
    """
    content = path.read_bytes()
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(f"{path}, line {line}: not UTF-8 ({error.reason}); save the file as UTF-8.") from None
