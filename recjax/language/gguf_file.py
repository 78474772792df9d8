"""The GGUF format of llama.cpp: read, dequantised, and renamed and laid out as in the Hugging Face format.

llama.cpp stores the rows of queries and keys so that rotary pairs lie side by side; that is undone here.

References:
  https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import numpy as np

from recjax.language.config import LanguageConfig
from recjax.language.extra import require
from recjax.language.gguf_header import check_header
from recjax.language.tokens import TextTokenizer

_TENSORS = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
    "blk.{}.attn_norm.weight": "model.layers.{}.input_layernorm.weight",
    "blk.{}.attn_q.weight": "model.layers.{}.self_attn.q_proj.weight",
    "blk.{}.attn_k.weight": "model.layers.{}.self_attn.k_proj.weight",
    "blk.{}.attn_v.weight": "model.layers.{}.self_attn.v_proj.weight",
    "blk.{}.attn_output.weight": "model.layers.{}.self_attn.o_proj.weight",
    "blk.{}.ffn_norm.weight": "model.layers.{}.post_attention_layernorm.weight",
    "blk.{}.ffn_gate.weight": "model.layers.{}.mlp.gate_proj.weight",
    "blk.{}.ffn_up.weight": "model.layers.{}.mlp.up_proj.weight",
    "blk.{}.ffn_down.weight": "model.layers.{}.mlp.down_proj.weight",
}

_DIGITS_APART = ("smollm",)
_BYTE_LEVEL = ("gpt-2", *_DIGITS_APART)
"""Supported pre-tokenisers, by ``tokenizer.ggml.pre``."""

_CONTROL, _USER_DEFINED = 3, 4
"""Types in ``tokenizer.ggml.token_type``: special tokens, and others that are never split."""


def read_gguf(path: Path) -> tuple[LanguageConfig, dict[str, np.ndarray], TextTokenizer]:
    """Reads a Llama from a GGUF file.

    Returns:
      Its config, its tensors, float32 by Hugging Face's names, and its tokenizer.

    Raises:
      ValueError: the file is truncated or of another format, architecture or kind of tokenizer, or
        holds tensors or keys that are not supported, such as scaled rotary positions.
    """
    gguf = require("gguf")
    try:
        check_header(path)
        reader = gguf.GGUFReader(path)
    except Exception as error:  # The package raises whatever comes of damaged content.
        raise ValueError(f"{path} is truncated or no GGUF file: {error}.") from None
    try:
        values = {name: field.contents() for name, field in reader.fields.items()}
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: a value is not UTF-8 ({error}).") from None
    names = {tensor.name for tensor in reader.tensors}
    config = _config(values, {"token_embd.weight", "output.weight"} <= names, path)
    tensors = {}
    for tensor in reader.tensors:
        name = _hugging_face(tensor.name, path)
        value = np.array(gguf.dequantize(tensor.data, tensor.tensor_type), np.float32)
        for part, heads in (("q_proj", config.num_heads), ("k_proj", config.num_kv_heads)):
            if part in name:
                if value.shape != (heads * config.head_dim, config.dim):
                    raise ValueError(
                        f"{path}: {tensor.name} has shape {value.shape}; {heads} heads of {config.head_dim} that read"
                        f" {config.dim} numbers need {(heads * config.head_dim, config.dim)}."
                    )
                value = _halves_apart(value, heads)
        tensors[name] = value
    return config, tensors, _tokenizer(values, config, path)


def _config(values: dict[str, Any], untied: bool, path: Path) -> LanguageConfig:
    architecture = values.get("general.architecture")
    if architecture != "llama":
        raise ValueError(f"{path}: general.architecture is {architecture!r}; supported in GGUF files: 'llama'.")
    _check_rope(values, path)
    value = functools.partial(_value, values, path)
    heads = value("llama.attention.head_count")
    shape = {
        "vocab_size": values.get("llama.vocab_size") or len(value("tokenizer.ggml.tokens")),
        "dim": value("llama.embedding_length"),
        "num_layers": value("llama.block_count"),
        "num_heads": heads,
        "num_kv_heads": values.get("llama.attention.head_count_kv", heads),
        "head_dim": values.get("llama.attention.key_length", 0),
        "feed_forward": value("llama.feed_forward_length"),
        "max_length": value("llama.context_length"),
        "activation": "silu",
        # Written as float32: six digits are those that were meant.
        "norm_eps": float(f"{value('llama.attention.layer_norm_rms_epsilon'):.6g}"),
        "rope_theta": float(values.get("llama.rope.freq_base", 10_000.0)),
        "tie_embeddings": not untied,
        "bos_id": values.get("tokenizer.ggml.bos_token_id"),
        "eos_id": values.get("tokenizer.ggml.eos_token_id"),
        "pad_id": values.get("tokenizer.ggml.padding_token_id"),
    }
    try:
        return LanguageConfig("llama", **shape)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _check_rope(values: dict[str, Any], path: Path) -> None:
    """Refuses rotary positions that are scaled or partial; a factor without a type is linear to llama.cpp."""
    scaling = values.get("llama.rope.scaling.type")
    if scaling not in (None, "none"):
        raise ValueError(f"{path}: llama.rope.scaling.type is {scaling!r}; supported: 'none'.")
    factors = ["llama.rope.scaling.attn_factor"]
    if scaling is None:
        factors += ["llama.rope.scaling.factor", "llama.rope.scale_linear"]
    for key in factors:
        if values.get(key, 1) not in (0, 1):  # To llama.cpp 0 is no scaling, too.
            raise ValueError(f"{path}: {key} is {values[key]!r}; supported: 1, positions that are not scaled.")
    heads, rotated = values.get("llama.attention.head_count"), values.get("llama.rope.dimension_count")
    width = values.get("llama.attention.key_length", values.get("llama.embedding_length", 0) // (heads or 1))
    if rotated not in (None, width):
        raise ValueError(f"{path}: llama.rope.dimension_count is {rotated!r}; supported: {width}, the width of a head.")


def _value(values: dict[str, Any], path: Path, key: str) -> Any:
    if key not in values:
        raise ValueError(f"{path}: the key {key!r} is missing.")
    return values[key]


def _hugging_face(name: str, path: Path) -> str:
    pattern = re.sub(r"^blk\.\d+\.", "blk.{}.", name)
    if pattern not in _TENSORS:
        raise ValueError(f"{path}: there is no place for the tensor {name!r} in a Llama.")
    numbers = re.findall(r"^blk\.(\d+)\.", name)
    return _TENSORS[pattern].format(*numbers)


def _halves_apart(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows ``(0, d/2), (1, d/2 + 1), …`` of each head back to ``0, 1, …, d - 1``."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _tokenizer(values: dict[str, Any], config: LanguageConfig, path: Path) -> TextTokenizer:
    tokenizers = require("tokenizers")
    kind, split = values.get("tokenizer.ggml.model"), values.get("tokenizer.ggml.pre")
    if kind != "gpt2":
        raise ValueError(f"{path}: tokenizer.ggml.model is {kind!r}; supported: 'gpt2' (byte-level BPE).")
    if split not in _BYTE_LEVEL:
        raise ValueError(f"{path}: tokenizer.ggml.pre is {split!r}; supported: {', '.join(map(repr, _BYTE_LEVEL))}.")
    tokens = _value(values, path, "tokenizer.ggml.tokens")
    merges = [tuple(merge.split(" ")) for merge in _value(values, path, "tokenizer.ggml.merges")]
    try:
        model = tokenizers.models.BPE({token: i for i, token in enumerate(tokens)}, merges)
    except Exception as error:  # The package raises nothing more specific.
        raise ValueError(f"{path}: tokenizer.ggml.merges does not fit tokenizer.ggml.tokens: {error}") from None
    backend = tokenizers.Tokenizer(model)
    bytes_apart = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    if split in _DIGITS_APART:
        digits = tokenizers.pre_tokenizers.Digits(individual_digits=True)
        bytes_apart = tokenizers.pre_tokenizers.Sequence([digits, bytes_apart])
    backend.pre_tokenizer = bytes_apart
    backend.decoder = tokenizers.decoders.ByteLevel()
    types = values.get("tokenizer.ggml.token_type", [])
    whole = {kind: [token for token, of in zip(tokens, types, strict=False) if of == kind] for kind in set(types)}
    backend.add_special_tokens(whole.get(_CONTROL, []))
    backend.add_tokens(whole.get(_USER_DEFINED, []))
    around = {"bos": config.bos_id, "eos": config.eos_id}
    added = {}
    for end, index in around.items():
        if values.get(f"tokenizer.ggml.add_{end}_token"):
            if index is None or not 0 <= index < len(tokens):
                raise ValueError(
                    f"{path}: tokenizer.ggml.add_{end}_token is set, but tokenizer.ggml.{end}_token_id is {index};"
                    f" it must be one of the {len(tokens)} tokens."
                )
            added[end] = tokens[index]
    if added:
        backend.post_processor = tokenizers.processors.TemplateProcessing(
            single=[*([added["bos"]] if "bos" in added else []), "$A", *([added["eos"]] if "eos" in added else [])],
            special_tokens=[(token, tokens.index(token)) for token in set(added.values())],
        )
    return TextTokenizer(backend, config.max_length)
