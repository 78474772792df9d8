"""A check of the header of a GGUF file: that all it announces lies inside of the file.

The reader of the ``gguf`` package trusts the sizes in the header; a hundred bytes that announce an array of
2^60 elements would occupy it for ever.

References:
  https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import mmap
import struct
from pathlib import Path
from typing import Any

from recjax.language.extra import require

_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of a value by the number of its type: integers, floats and booleans."""

_STRING, _ARRAY = 8, 9
_MOST_AXES = 4


def check_header(path: Path) -> None:
    """Walks through the keys and the tensors of a file without reading their values.

    Raises:
      ValueError: the file is no GGUF file, or something of it lies beyond its end.
    """
    with path.open("rb") as file:
        if file.seek(0, 2) < 24:
            raise ValueError("it is shorter than a header")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            _Header(content).check()


class _Header:
    """A position in a file that may not pass its end."""

    def __init__(self, content: mmap.mmap) -> None:
        self._content, self._at = content, 0
        # Versions are small numbers, so in the other order of bytes the first are zeros.
        self._order = ">" if content[4:6] == b"\0\0" else "<"

    def check(self) -> None:
        """Walks to the end of the header."""
        if self._content[:4] != b"GGUF":
            raise ValueError("it does not begin with GGUF")
        self._skip(8)
        num_tensors, num_keys = self._integer("Q"), self._integer("Q")
        for _ in range(num_keys):
            self._skip_string()
            self._skip_value(self._integer("I"))
        ends = [self._tensor_end() for _ in range(num_tensors)]
        if self._at + max(ends, default=0) > len(self._content):
            raise ValueError(f"its tensors need {max(ends):,} bytes, and it has {len(self._content):,}")

    def _skip(self, size: int) -> None:
        self._at += size
        if self._at > len(self._content):
            raise ValueError(f"its header reaches beyond its end at {len(self._content):,} bytes")

    def _integer(self, kind: str) -> int:
        begin = self._at
        self._skip(struct.calcsize(kind))
        (value,) = struct.unpack_from(f"{self._order}{kind}", self._content, begin)
        return value

    def _skip_string(self) -> None:
        self._skip(self._integer("Q"))

    def _skip_value(self, kind: int) -> None:
        if kind == _STRING:
            self._skip_string()
        elif kind == _ARRAY:
            element, count = self._integer("I"), self._integer("Q")
            if element in _SIZES:
                self._skip(count * _SIZES[element])
            elif element == _STRING:
                for _ in range(count):  # Ends at the end of the file, as each has a length of eight bytes.
                    self._skip_string()
            else:
                raise ValueError(f"it has an array of elements of type {element}")
        elif kind in _SIZES:
            self._skip(_SIZES[kind])
        else:
            raise ValueError(f"it has a value of type {kind}")

    def _tensor_end(self) -> int:
        """Where a tensor ends, from the end of the header."""
        sizes: dict[Any, tuple[int, int]] = require("gguf").GGML_QUANT_SIZES
        self._skip_string()
        axes = self._integer("I")
        if axes > _MOST_AXES:
            raise ValueError(f"it has a tensor of {axes} axes")
        count = math.prod(self._integer("Q") for _ in range(axes))
        kind, offset = self._integer("I"), self._integer("Q")
        known = {int(each): size for each, size in sizes.items()}
        if kind not in known:
            raise ValueError(f"it has a tensor of type {kind}")
        block, size = known[kind]
        return offset + -(-count // block) * size
