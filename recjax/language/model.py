"""Language models: architecture, weights and tokenizer, from files and into files."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from recjax.language.config import LanguageConfig, to_hugging_face
from recjax.language.gguf_file import read_gguf
from recjax.language.hugging_face import as_dtype, read_folder, write_folder
from recjax.language.named import pretrained
from recjax.language.tokens import TextTokenizer
from recjax.language.transformer import Transformer
from recjax.language.weight_map import to_params, to_tensors
from recjax.types import Array, PyTree

PathLike = str | os.PathLike[str]


@dataclasses.dataclass(frozen=True)
class LanguageModel:
    """A language model: its architecture, weights and tokenizer.

    Attributes:
      config: of the architecture.
      module: ``module.apply(params, ids, mask) -> hidden states``, see :class:`Transformer`.
      params: float32.
      tokenizer: None where the weights came without one; its ids must be rows of the word embeddings.
      fresh: names of the parts of ``params`` that are randomly initialised, and neither loaded nor trained.
      unused: tensors of the file that the module does not read, such as BERT's pooler; ``save`` writes them back.
    """

    config: LanguageConfig
    module: Transformer
    params: PyTree = dataclasses.field(repr=False)
    tokenizer: TextTokenizer | None = dataclasses.field(default=None, repr=False)
    fresh: tuple[str, ...] = ()
    unused: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict, repr=False)

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
                f"The tokenizer cuts texts at {self.tokenizer.max_length} tokens, but the model reads"
                f" {self.config.max_length}; give it TextTokenizer(tokenizer.backend, {self.config.max_length})."
            )

    def need_tokenizer(self) -> TextTokenizer:
        """The tokenizer.

        Raises:
          ValueError: the model has none.
        """
        if self.tokenizer is None:
            raise ValueError("The model has no tokenizer; give LanguageModel.tokenizer, e.g. read by load().")
        return self.tokenizer

    @property
    def num_params(self) -> int:
        """The number of parameters."""
        return sum(leaf.size for leaf in jax.tree.leaves(self.params))


def initialize(
    config: LanguageConfig, key: Array, tokenizer: TextTokenizer | None = None, **options: Any
) -> LanguageModel:
    """A randomly initialised model, with its head.

    Args:
      config: of the architecture.
      key: of the random weights.
      tokenizer: which may have fewer tokens than the model.
      **options: of :class:`Transformer`, ``dtype`` and ``remat``.

    Raises:
      ValueError: the tokenizer has more tokens than the model, or cuts texts at more than it reads.
    """
    module = Transformer(config, **options)
    params = jax.jit(module.init)(key, jnp.zeros((1, 1), jnp.int32))
    return LanguageModel(config, module, params, tokenizer, fresh=tuple(params["params"]))


def load(path_or_name: PathLike, cache_dir: PathLike | None = None, **options: Any) -> LanguageModel:
    """Loads a pretrained model, from files or by name.

    Args:
      path_or_name: a Hugging Face folder (``config.json``, ``model.safetensors`` or its shards,
        ``tokenizer.json``), a ``.gguf`` file of a Llama, whose weights are dequantised, or a name of
        ``pretrained``, fetched on first use. A folder whose path is a name: write ``./name``.
      cache_dir: the cache of fetched files. Default: ``RECJAX_CACHE``, else the user's cache directory.
      **options: of :class:`Transformer`, ``dtype`` and ``remat``.

    Raises:
      ImportError: the extra ``text`` is not installed.
      ValueError: there is no such file or name; the model is of an unknown architecture, or its positions are scaled;
        the file is damaged; tensors are missing, unknown, of another shape, NaN or infinite. Names the file.
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
    with _naming(where):
        config, tensors, tokenizer = read_folder(path) if path.is_dir() else read_gguf(path)
        params, unused = to_params(tensors, config, where)
    return LanguageModel(config, Transformer(config, **options), params, tokenizer, unused=unused)


@contextlib.contextmanager
def _naming(where: str) -> Iterator[None]:
    """Turns what damaged content may raise into one ValueError that names the file."""
    try:
        yield
    except (
        TypeError,
        AttributeError,
        LookupError,
        ArithmeticError,
        AssertionError,
        MemoryError,
        RecursionError,
    ) as error:
        kind = type(error).__name__
        raise ValueError(f"{where} is damaged, or holds values of unexpected types ({kind}: {error}).") from error


def save(model: LanguageModel, folder: PathLike, *, dtype: str = "float32", shard_bytes: int = 5 * 10**9) -> None:
    """Saves a model atomically in the Hugging Face format, which ``load`` and ``transformers`` read.

    Args:
      model: the model.
      folder: must not exist, or be empty.
      dtype: of the tensors: "float32", which gives ``params`` back bit by bit, "bfloat16" or "float16".
      shard_bytes: the size of a file at most, unless one tensor is larger.

    Raises:
      ImportError: the extra ``text`` is not installed.
      ValueError: the folder is not empty; there is no such ``dtype``; a number is NaN or beyond its range.
    """
    tensors = as_dtype(to_tensors(model.params, model.config, model.unused), dtype)
    config = to_hugging_face(model.config, head="head" in model.params["params"]) | {"dtype": dtype}
    write_folder(Path(folder).expanduser(), config, tensors, model.tokenizer, shard_bytes)


def with_head(model: LanguageModel, key: Array) -> LanguageModel:
    """The model with a language-modelling head: its own, or a randomly initialised one where it has none.

    Sentence encoders such as MiniLM come without the head of their pretraining. That of the result is random but for
    the word embeddings, with which it is tied; ``fresh`` then has "head", and logits mean nothing before training.
    """
    if "head" in model.params["params"] or (model.config.family != "bert" and model.config.tie_embeddings):
        return model
    made = jax.jit(model.module.init)(key, jnp.zeros((1, 1), jnp.int32))["params"]["head"]
    params = {"params": {**model.params["params"], "head": made}}
    return dataclasses.replace(model, params=params, fresh=(*model.fresh, "head"))
