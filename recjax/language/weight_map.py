"""Weight maps between Hugging Face tensors and parameters: one table a family, read both ways."""

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


class Entry(NamedTuple):
    """A tensor and the parameters that it holds.

    Attributes:
      tensor: its name; ``{}`` is the number of a layer, whose parameters are stacked.
      paths: of the parameters; several are concatenated along the tensor's last axis.
      transposed: whether the file holds ``[out, in]``, as PyTorch's linear layers do.
    """

    tensor: str
    paths: tuple[str, ...]
    transposed: bool = False


class WeightMap(NamedTuple):
    """The tensors of a family.

    Attributes:
      prefix: of all names but those of the head; files of a model without a head leave it out.
      entries: the table.
      tied: names of copies of the word embeddings in tied models; a file may hold the copy alone.
      unused: tensors that the module does not read, which ``save`` writes as they came.
      ignored: buffers, and copies of tied tensors.
    """

    prefix: str
    entries: tuple[Entry, ...]
    tied: str
    unused: str = r"(?!)"
    ignored: str = r"(?!)"


def _dense(tensor: str, *paths: str, transposed: bool = True) -> tuple[Entry, ...]:
    return (
        Entry(f"{tensor}.weight", tuple(f"{path}/kernel" for path in paths), transposed),
        Entry(f"{tensor}.bias", tuple(f"{path}/bias" for path in paths)),
    )


def _norm(tensor: str, path: str) -> tuple[Entry, ...]:
    return Entry(f"{tensor}.weight", (f"{path}/scale",)), Entry(f"{tensor}.bias", (f"{path}/bias",))


def _embedding(tensor: str, path: str) -> tuple[Entry, ...]:
    return (Entry(f"{tensor}.weight", (f"{path}/embedding",)),)


_BERT, _GPT2, _LLAMA = "bert.encoder.layer.{}", "transformer.h.{}", "model.layers.{}"
_conv = functools.partial(_dense, transposed=False)  # GPT-2's Conv1D holds [in, out].

WEIGHT_MAPS: dict[str, WeightMap] = {
    "bert": WeightMap(
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
            Entry("cls.predictions.bias", ("head/bias",)),
        ),
        tied="cls.predictions.decoder.weight",
        unused=r"bert\.pooler\.|cls\.seq_relationship\.",
        ignored=r"bert\.embeddings\.position_ids|cls\.predictions\.decoder\.",
    ),
    "gpt2": WeightMap(
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
        tied="lm_head.weight",
        ignored=r"transformer\.h\.\d+\.attn\.(masked_)?bias|lm_head\.weight",
    ),
    "llama": WeightMap(
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
        tied="lm_head.weight",
        ignored=r".*rotary_emb\.inv_freq|lm_head\.weight",
    ),
}


def to_params(tensors: Tensors, config: LanguageConfig, where: str) -> tuple[PyTree, dict[str, np.ndarray]]:
    """Parameters from the tensors of a file.

    Args:
      tensors: by name, floats of any precision.
      config: of the model.
      where: the file, for messages.

    Returns:
      ``params``, float32, without the head of a BERT whose file has none; and the unused tensors by their full names.

    Raises:
      ValueError: tensors are missing or unknown, or one has another shape, no floats, NaN or infinite values; names
        them.
    """
    family = WEIGHT_MAPS[config.family]
    _check_sizes(tensors, config, where)
    expected = _expected(config)
    tensors = _untied({_full_name(name, family): value for name, value in tensors.items()}, config, family)
    entries = [entry for entry in family.entries if entry.paths[0] in expected]
    if config.family == "bert" and not any(entry.tensor in tensors for entry in _head(entries)):
        entries = [entry for entry in entries if entry not in _head(entries)]
    wanted = {name for entry in entries for name in _instances(entry, config)}
    _refuse(f"{where}: the {config.family} lacks tensors", wanted - set(tensors))
    rest = set(tensors) - wanted
    unused = {name for name in rest if re.match(family.unused, name)}
    unknown = {name for name in rest - unused if not re.match(family.ignored, name)}
    _refuse(f"{where}: a {config.family} has no place for tensors", unknown)
    for name in unused:
        check_finite(np.asarray(tensors[name], np.float32), f"{where}: {name}")
    flat = {}
    for entry in entries:
        widths = [expected[path][-1] for path in entry.paths]
        stacked = "{}" in entry.tensor
        shape = (*expected[entry.paths[0]][stacked:-1], sum(widths))
        shape = shape[::-1] if entry.transposed else shape
        found = [_checked(tensors[name], shape, f"{where}: {name}") for name in _instances(entry, config)]
        found = [value.T for value in found] if entry.transposed else found
        values = np.stack(found) if stacked else found[0]
        for path, part in zip(entry.paths, np.split(values, np.cumsum(widths)[:-1], axis=-1), strict=True):
            flat[path] = jnp.asarray(part)
    return {"params": unflatten_dict(flat, sep="/")}, {name: np.asarray(tensors[name]) for name in sorted(unused)}


def to_tensors(params: PyTree, config: LanguageConfig, unused: Tensors) -> dict[str, np.ndarray]:
    """The tensors of a file, float32 by name; :func:`to_params` gives the parameters back bit by bit.

    Args:
      params: of the model.
      config: of the model.
      unused: the tensors that ``to_params`` returned beside them.
    """
    family = WEIGHT_MAPS[config.family]
    flat = flatten_dict(params["params"], sep="/")
    tensors = dict(unused)
    for entry in family.entries:
        if entry.paths[0] not in flat:
            continue
        whole = np.concatenate([np.asarray(flat[path], np.float32) for path in entry.paths], axis=-1)
        values = whole if "{}" in entry.tensor else whole[None]
        for name, value in zip(_instances(entry, config), values, strict=True):
            tensors[name] = np.ascontiguousarray(value.T if entry.transposed else value)
    if config.family == "bert" and "head" not in params["params"]:
        tensors = {name.removeprefix(family.prefix): value for name, value in tensors.items()}
    return dict(sorted(tensors.items()))


def _check_sizes(tensors: Tensors, config: LanguageConfig, where: str) -> None:
    """Refuses a config that is larger than the file, before anything is made of its sizes."""
    total = sum(int(value.size) for value in tensors.values())
    sizes = {
        "num_layers": config.num_layers,
        "vocab_size * dim": config.vocab_size * config.dim,
        "feed_forward * dim": config.feed_forward * config.dim,
        "num_heads * head_dim * dim": config.num_heads * config.head_dim * config.dim,
    }
    if not config.traits.rotary:
        sizes["max_length * dim"] = config.max_length * config.dim
    if config.family == "bert":
        sizes["num_types * dim"] = config.num_types * config.dim
    for name, size in sizes.items():
        if size > total:
            raise ValueError(
                f"{where}: by its config {name} is {size:,}, but the tensors have {total:,} numbers in all;"
                " the config is of another model, or damaged."
            )


def _untied(tensors: dict[str, np.ndarray], config: LanguageConfig, family: WeightMap) -> dict[str, np.ndarray]:
    """The tensors, with the word embeddings where a tied model has only their copy."""
    words = family.entries[0].tensor
    if config.tie_embeddings and words not in tensors and family.tied in tensors:
        return {words if name == family.tied else name: value for name, value in tensors.items()}
    return tensors


@functools.cache
def _expected(config: LanguageConfig) -> dict[str, tuple[int, ...]]:
    ids = jax.ShapeDtypeStruct((1, 1), jnp.int32)
    shapes = jax.eval_shape(lambda ids: Transformer(config).init(jax.random.key(0), ids), ids)
    return {path: leaf.shape for path, leaf in flatten_dict(shapes["params"], sep="/").items()}


def _head(entries: list[Entry]) -> list[Entry]:
    return [entry for entry in entries if entry.paths[0].startswith("head/")]


def _instances(entry: Entry, config: LanguageConfig) -> list[str]:
    return [entry.tensor.format(i) for i in range(config.num_layers)] if "{}" in entry.tensor else [entry.tensor]


def _full_name(name: str, family: WeightMap) -> str:
    # The first BERTs were converted from TensorFlow, which calls the parts of a norm so.
    name = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name))
    return name if name.startswith((family.prefix, "cls.", "lm_head.")) else family.prefix + name


def _checked(value: np.ndarray, shape: tuple[int, ...], where: str) -> np.ndarray:
    if value.shape != shape:
        raise ValueError(f"{where} has shape {value.shape}; by config.json it has {shape}.")
    if not jnp.issubdtype(value.dtype, jnp.floating):
        raise ValueError(f"{where} has dtype {value.dtype}; it must hold floats, so dequantise the file first.")
    value = np.asarray(value, np.float32)
    check_finite(value, where)
    return value


def check_finite(value: np.ndarray, where: str) -> None:
    """Raises ValueError, with the place and the value of the first, where numbers are NaN or infinite."""
    finite = np.isfinite(value)
    if not finite.all():
        first = np.unravel_index(int(np.argmin(finite)), value.shape)
        raise ValueError(
            f"{where} holds {value[first]} at {[int(i) for i in first]}, one of {int((~finite).sum()):,} numbers that"
            " are not finite; the training that made it diverged, or the file is damaged."
        )


def _refuse(what: str, names: set[str]) -> None:
    if names:
        listed = sorted(names)
        more = f" and {len(listed) - 5} more" if len(listed) > 5 else ""
        raise ValueError(f"{what}: {', '.join(listed[:5])}{more}.")
