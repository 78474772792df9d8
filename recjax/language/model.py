"""A language model with everything that it takes to use it, from files and back into files."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from recjax.language.config import LanguageConfig, to_hugging_face
from recjax.language.folder import as_dtype, read_folder, write_folder
from recjax.language.gguf_file import read_gguf
from recjax.language.named import pretrained
from recjax.language.names import to_params, to_tensors
from recjax.language.tokens import TextTokenizer
from recjax.language.transformer import Transformer
from recjax.types import Array, PyTree

PathLike = str | os.PathLike[str]


@dataclasses.dataclass(frozen=True)
class LanguageModel:
    """An architecture, its weights and its tokens.

    Attributes:
      config: the shape.
      module: ``module.apply(params, ids, mask) -> hidden states``, see :class:`Transformer`.
      params: float32.
      tokenizer: None where the weights came without one; its ids must be rows of the word embeddings.
      fresh: names of the parts of ``params`` that come from no weights.
      kept: tensors of the file that the module does not read, such as BERT's pooler; ``save`` writes them back.
    """

    config: LanguageConfig
    module: Transformer
    params: PyTree = dataclasses.field(repr=False)
    tokenizer: TextTokenizer | None = dataclasses.field(default=None, repr=False)
    fresh: tuple[str, ...] = ()
    kept: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.tokenizer is None:
            return
        rows = 1 + max(self.tokenizer.backend.get_vocab().values())
        if rows > self.config.vocab_size:
            raise ValueError(
                f"The tokenizer has ids up to {rows - 1}, but the model has vectors of {self.config.vocab_size} tokens;"
                " they do not belong together."
            )
        if self.tokenizer.max_length > self.config.max_length:
            raise ValueError(
                f"The tokenizer keeps {self.tokenizer.max_length} tokens of a text, but the model reads"
                f" {self.config.max_length}; give it TextTokenizer(tokenizer.backend, {self.config.max_length})."
            )

    def need_tokenizer(self) -> TextTokenizer:
        """The tokenizer, for what cannot do without.

        Raises:
          ValueError: the model has none.
        """
        if self.tokenizer is None:
            raise ValueError("The model has no tokenizer; give LanguageModel.tokenizer, e.g. read by load().")
        return self.tokenizer

    @property
    def num_params(self) -> int:
        """How many numbers are learned."""
        return sum(leaf.size for leaf in jax.tree.leaves(self.params))


def initialize(
    config: LanguageConfig, key: Array, tokenizer: TextTokenizer | None = None, **options: Any
) -> LanguageModel:
    """A model from scratch, with its head.

    Args:
      config: the shape.
      key: of the random weights.
      tokenizer: which may know fewer tokens than the model.
      **options: of :class:`Transformer`, ``dtype`` and ``remat``.

    Raises:
      ValueError: the tokenizer has more tokens than the model, or keeps more of a text than it reads.
    """
    module = Transformer(config, **options)
    params = jax.jit(module.init)(key, jnp.zeros((1, 1), jnp.int32))
    return LanguageModel(config, module, params, tokenizer, fresh=tuple(params["params"]))


def load(path_or_name: PathLike, cache_dir: PathLike | None = None, **options: Any) -> LanguageModel:
    """A pretrained model, from files or by name.

    Args:
      path_or_name: a Hugging Face folder (``config.json``, ``model.safetensors`` or its shards,
        ``tokenizer.json``), a ``.gguf`` file of a Llama, whose weights are dequantised, or a name of
        ``pretrained``, fetched on first use. A folder whose path is a name: write ``./name``.
      cache_dir: where fetched files are kept. Default: ``RECJAX_CACHE``, else the user's cache directory.
      **options: of :class:`Transformer`, ``dtype`` and ``remat``.

    Raises:
      ImportError: the extra ``text`` is not installed.
      ValueError: there is no such file or name, or it is not what it should be: of an unknown architecture,
        truncated, with tensors missing, unknown or of another shape.
    """
    if path_or_name in pretrained:
        with pretrained.make(str(path_or_name), cache_dir=cache_dir) as path:
            return _load(path, str(path_or_name), options)
    path = Path(path_or_name).expanduser()
    if not path.exists():
        raise ValueError(
            f"There is no file or folder {str(path_or_name)!r}, and no pretrained model of this name;"
            f" names: {', '.join(pretrained)}."
        )
    return _load(path, str(path), options)


def _load(path: Path, where: str, options: dict[str, Any]) -> LanguageModel:
    config, tensors, tokenizer = read_folder(path) if path.is_dir() else read_gguf(path)
    params, kept = to_params(tensors, config, where)
    return LanguageModel(config, Transformer(config, **options), params, tokenizer, kept=kept)


def save(model: LanguageModel, folder: PathLike, *, dtype: str = "float32", shard_bytes: int = 5 * 10**9) -> None:
    """Writes a Hugging Face folder, which ``load`` and ``transformers`` read; it is whole or not there.

    Args:
      model: what is written.
      folder: must not be there, or be empty.
      dtype: of the tensors: "float32", which gives ``params`` back bit by bit, "bfloat16" or "float16".
      shard_bytes: a file holds no more, unless one tensor does.

    Raises:
      ImportError: the extra ``text`` is not installed.
      ValueError: the folder is not empty; there is no such ``dtype``.
    """
    tensors = as_dtype(to_tensors(model.params, model.config, model.kept), dtype)
    config = to_hugging_face(model.config, head="head" in model.params["params"]) | {"dtype": dtype}
    write_folder(Path(folder).expanduser(), config, tensors, model.tokenizer, shard_bytes)


def with_head(model: LanguageModel, key: Array) -> LanguageModel:
    """The model with a head for logits: its own, or a fresh one where the weights came without.

    Sentence encoders such as MiniLM come without the head for masked tokens that they were once
    trained with. A fresh one is random but for its comparison with the word embeddings; ``fresh``
    of the result then has "head", and the logits mean nothing before training.
    """
    if "head" in model.params["params"] or (model.config.family != "bert" and model.config.tie_embeddings):
        return model
    made = jax.jit(model.module.init)(key, jnp.zeros((1, 1), jnp.int32))["params"]["head"]
    params = {"params": {**model.params["params"], "head": made}}
    return dataclasses.replace(model, params=params, fresh=(*model.fresh, "head"))
