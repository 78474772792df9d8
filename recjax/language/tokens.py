"""Texts to ids of tokens and back, by the ``tokenizers`` of Hugging Face."""

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
    """A tokenizer that pads nothing and truncates to a length of its own.

    Attributes:
      backend: a ``tokenizers.Tokenizer``, which is copied; what its file says of padding and truncation is taken out.
      max_length: tokens of a text, special tokens included; of longer texts the first are kept, and
        the special tokens around them.
    """

    backend: Any
    max_length: int

    def __post_init__(self) -> None:
        # A copy, as the backend itself is told where to cut.
        object.__setattr__(self, "backend", copy.deepcopy(self.backend))
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
        # What is cut off a long text lies beside it, in pieces.
        pieces = [[part.ids for part in (one, *one.overflowing)] for one in found]
        return [np.array(list(itertools.chain(*parts)), np.int32) for parts in pieces]

    @property
    def opening(self) -> np.ndarray:
        """``i32[n]``, the special tokens before a text, such as the beginning of text of a Llama; often none."""
        found = self.backend.encode("a")
        return np.array(found.ids[: found.special_tokens_mask.index(0)], np.int32)

    @property
    def special_ids(self) -> tuple[int, ...]:
        """Tokens that stand for no text, such as those of beginnings, padding and gaps; ascending."""
        return tuple(sorted(i for i, token in self.backend.get_added_tokens_decoder().items() if token.special))

    @property
    def mask_id(self) -> int | None:
        """The token of a gap, ``[MASK]`` or ``<mask>``; None where there is none, as in decoders."""
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
    """A lower-case WordPiece tokenizer with BERT's special tokens, learned from texts, for models from scratch.

    Args:
      texts: what it is learned from.
      vocab_size: tokens at most, unless the special ones and the letters of the texts are more.
      max_length: see :class:`TextTokenizer`.

    References:
      Schuster, Nakajima, "Japanese and Korean Voice Search", ICASSP 2012.
    """
    tokenizers = require("tokenizers")
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    backend = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    trainer = tokenizers.trainers.WordPieceTrainer(
        vocab_size=vocab_size, special_tokens=special, min_frequency=1, show_progress=False
    )
    backend.train_from_iterator(texts, trainer)
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
