"""Where each tensor of a Hugging Face file lies among the parameters: one table a family, read both ways."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from recjax.language.config import LanguageConfig
from recjax.language.transformer import Transformer
from recjax.types import PyTree

Tensors = Mapping[str, np.ndarray]


class Row(NamedTuple):
    """A tensor and the parameters that it holds.

    Attributes:
      tensor: its name; ``{}`` stands for the number of a layer, whose parameters are stacked.
      paths: of the parameters; several lie side by side along the tensor's last axis.
      transposed: whether the file holds ``[out, in]``, as PyTorch's linear layers do.
    """

    tensor: str
    paths: tuple[str, ...]
    transposed: bool = False


class Names(NamedTuple):
    """The tensors of a family.

    Attributes:
      prefix: of all names but those of the head; files of a model without a head leave it out.
      rows: the table.
      kept: tensors that the module does not read, which go through ``save`` as they came.
      dropped: buffers, and copies of tied tensors.
    """

    prefix: str
    rows: tuple[Row, ...]
    kept: str = r"(?!)"
    dropped: str = r"(?!)"


def _dense(tensor: str, *paths: str, transposed: bool = True) -> tuple[Row, ...]:
    return (
        Row(f"{tensor}.weight", tuple(f"{path}/kernel" for path in paths), transposed),
        Row(f"{tensor}.bias", tuple(f"{path}/bias" for path in paths)),
    )


def _norm(tensor: str, path: str) -> tuple[Row, ...]:
    return Row(f"{tensor}.weight", (f"{path}/scale",)), Row(f"{tensor}.bias", (f"{path}/bias",))


def _embedding(tensor: str, path: str) -> tuple[Row, ...]:
    return (Row(f"{tensor}.weight", (f"{path}/embedding",)),)


_BERT, _GPT2, _LLAMA = "bert.encoder.layer.{}", "transformer.h.{}", "model.layers.{}"
_conv = functools.partial(_dense, transposed=False)  # GPT-2's Conv1D holds [in, out].

NAMES: dict[str, Names] = {
    "bert": Names(
        "bert.",
        (
            *_embedding("bert.embeddings.word_embeddings", "words"),
            *_embedding("bert.embeddings.position_embeddings", "positions"),
            *_embedding("bert.embeddings.token_type_embeddings", "types"),
            *_norm("bert.embeddings.LayerNorm", "embedding_norm"),
            *_dense(f"{_BERT}.attention.self.query", "layers/attention/query"),
            *_dense(f"{_BERT}.attention.self.key", "layers/attention/key"),
            *_dense(f"{_BERT}.attention.self.value", "layers/attention/value"),
            *_dense(f"{_BERT}.attention.output.dense", "layers/attention/out"),
            *_norm(f"{_BERT}.attention.output.LayerNorm", "layers/attention_norm"),
            *_dense(f"{_BERT}.intermediate.dense", "layers/feed_forward/up"),
            *_dense(f"{_BERT}.output.dense", "layers/feed_forward/down"),
            *_norm(f"{_BERT}.output.LayerNorm", "layers/feed_forward_norm"),
            *_dense("cls.predictions.transform.dense", "head/transform"),
            *_norm("cls.predictions.transform.LayerNorm", "head/norm"),
            Row("cls.predictions.bias", ("head/bias",)),
        ),
        kept=r"bert\.pooler\.|cls\.seq_relationship\.",
        dropped=r"bert\.embeddings\.position_ids|cls\.predictions\.decoder\.",
    ),
    "gpt2": Names(
        "transformer.",
        (
            *_embedding("transformer.wte", "words"),
            *_embedding("transformer.wpe", "positions"),
            *_norm(f"{_GPT2}.ln_1", "layers/attention_norm"),
            *_conv(f"{_GPT2}.attn.c_attn", *(f"layers/attention/{part}" for part in ("query", "key", "value"))),
            *_conv(f"{_GPT2}.attn.c_proj", "layers/attention/out"),
            *_norm(f"{_GPT2}.ln_2", "layers/feed_forward_norm"),
            *_conv(f"{_GPT2}.mlp.c_fc", "layers/feed_forward/up"),
            *_conv(f"{_GPT2}.mlp.c_proj", "layers/feed_forward/down"),
            *_norm("transformer.ln_f", "final_norm"),
            *_dense("lm_head", "head"),
        ),
        dropped=r"transformer\.h\.\d+\.attn\.(masked_)?bias|lm_head\.weight",
    ),
    "llama": Names(
        "model.",
        (
            *_embedding("model.embed_tokens", "words"),
            *_norm(f"{_LLAMA}.input_layernorm", "layers/attention_norm"),
            *_dense(f"{_LLAMA}.self_attn.q_proj", "layers/attention/query"),
            *_dense(f"{_LLAMA}.self_attn.k_proj", "layers/attention/key"),
            *_dense(f"{_LLAMA}.self_attn.v_proj", "layers/attention/value"),
            *_dense(f"{_LLAMA}.self_attn.o_proj", "layers/attention/out"),
            *_norm(f"{_LLAMA}.post_attention_layernorm", "layers/feed_forward_norm"),
            *_dense(f"{_LLAMA}.mlp.gate_proj", "layers/feed_forward/gate"),
            *_dense(f"{_LLAMA}.mlp.up_proj", "layers/feed_forward/up"),
            *_dense(f"{_LLAMA}.mlp.down_proj", "layers/feed_forward/down"),
            *_norm("model.norm", "final_norm"),
            *_dense("lm_head", "head"),
        ),
        dropped=r".*rotary_emb\.inv_freq|lm_head\.weight",
    ),
}


def to_params(tensors: Tensors, config: LanguageConfig, where: str) -> tuple[PyTree, dict[str, np.ndarray]]:
    """Parameters from the tensors of a file.

    Args:
      tensors: by name, floats of any precision.
      config: of the model.
      where: named in messages.

    Returns:
      ``params``, float32, without the head of a BERT whose file has none; and the tensors that the
      module does not read but a file should keep, by their full names.

    Raises:
      ValueError: tensors are missing or unknown, or one has another shape or no floats; names them.
    """
    names, expected = NAMES[config.family], _expected(config)
    tensors = {_full_name(name, names): value for name, value in tensors.items()}
    rows = [row for row in names.rows if row.paths[0] in expected]
    if config.family == "bert" and not any(row.tensor in tensors for row in _head(rows)):
        rows = [row for row in rows if row not in _head(rows)]
    wanted = {name for row in rows for name in _instances(row, config)}
    _refuse(f"{where}: the {config.family} lacks tensors", wanted - set(tensors))
    rest = set(tensors) - wanted
    kept = {name for name in rest if re.match(names.kept, name)}
    unknown = {name for name in rest - kept if not re.match(names.dropped, name)}
    _refuse(f"{where}: a {config.family} has no place for tensors", unknown)
    flat = {}
    for row in rows:
        widths = [expected[path][-1] for path in row.paths]
        stacked = "{}" in row.tensor
        shape = (*expected[row.paths[0]][stacked:-1], sum(widths))
        shape = shape[::-1] if row.transposed else shape
        found = [_checked(tensors[name], shape, f"{where}: {name}") for name in _instances(row, config)]
        found = [value.T for value in found] if row.transposed else found
        whole = np.stack(found) if stacked else found[0]
        for path, part in zip(row.paths, np.split(whole, np.cumsum(widths)[:-1], axis=-1), strict=True):
            flat[path] = jnp.asarray(part)
    return {"params": unflatten_dict(flat, sep="/")}, {name: np.asarray(tensors[name]) for name in sorted(kept)}


def to_tensors(params: PyTree, config: LanguageConfig, kept: Tensors) -> dict[str, np.ndarray]:
    """The tensors of a file, float32 by name; :func:`to_params` gives the parameters back bit by bit.

    Args:
      params: of the model.
      config: of the model.
      kept: what ``to_params`` returned beside them.
    """
    names = NAMES[config.family]
    flat = flatten_dict(params["params"], sep="/")
    tensors = dict(kept)
    for row in names.rows:
        if row.paths[0] not in flat:
            continue
        whole = np.concatenate([np.asarray(flat[path], np.float32) for path in row.paths], axis=-1)
        values = whole if "{}" in row.tensor else whole[None]
        for name, value in zip(_instances(row, config), values, strict=True):
            tensors[name] = np.ascontiguousarray(value.T if row.transposed else value)
    if config.family == "bert" and "head" not in params["params"]:
        tensors = {name.removeprefix(names.prefix): value for name, value in tensors.items()}
    return dict(sorted(tensors.items()))


@functools.cache
def _expected(config: LanguageConfig) -> dict[str, tuple[int, ...]]:
    ids = jax.ShapeDtypeStruct((1, 1), jnp.int32)
    shapes = jax.eval_shape(lambda ids: Transformer(config).init(jax.random.key(0), ids), ids)
    return {path: leaf.shape for path, leaf in flatten_dict(shapes["params"], sep="/").items()}


def _head(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row.paths[0].startswith("head/")]


def _instances(row: Row, config: LanguageConfig) -> list[str]:
    return [row.tensor.format(i) for i in range(config.num_layers)] if "{}" in row.tensor else [row.tensor]


def _full_name(name: str, names: Names) -> str:
    # The first BERTs were converted from TensorFlow, which calls the parts of a norm so.
    name = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name))
    return name if name.startswith((names.prefix, "cls.", "lm_head.")) else names.prefix + name


def _checked(value: np.ndarray, shape: tuple[int, ...], where: str) -> np.ndarray:
    if value.shape != shape:
        raise ValueError(f"{where} has shape {value.shape}; by config.json it has {shape}.")
    if not jnp.issubdtype(value.dtype, jnp.floating):
        raise ValueError(f"{where} has dtype {value.dtype}; it must hold floats, so dequantise the file first.")
    return np.asarray(value, np.float32)


def _refuse(what: str, names: set[str]) -> None:
    if names:
        listed = sorted(names)
        more = f" and {len(listed) - 5} more" if len(listed) > 5 else ""
        raise ValueError(f"{what}: {', '.join(listed[:5])}{more}.")
