"""The Hugging Face format: ``config.json``, ``model.safetensors`` in one or several files, ``tokenizer.json``."""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from recjax.language.config import LanguageConfig, from_hugging_face
from recjax.language.extra import require
from recjax.language.tokens import TextTokenizer, read_text, read_tokenizer
from recjax.language.weight_map import check_finite

_WHOLE, _INDEX = "model.safetensors", "model.safetensors.index.json"


def read_folder(folder: Path) -> tuple[LanguageConfig, dict[str, np.ndarray], TextTokenizer | None]:
    """Reads a folder.

    Returns:
      The config, the tensors by name, and the tokenizer, None where the folder has none.

    Raises:
      ValueError: files are missing, truncated, outside of the folder, not UTF-8, not JSON, or of something unsupported.
    """
    config = from_hugging_face(_read_json(folder / "config.json"), str(folder / "config.json"))
    return config, _read_tensors(folder), _read_tokenizer(folder, config)


def write_folder(
    folder: Path,
    config: dict[str, Any],
    tensors: dict[str, np.ndarray],
    tokenizer: TextTokenizer | None,
    shard_bytes: int,
) -> None:
    """Writes a folder atomically: into a temporary one, which is then renamed.

    Raises:
      ValueError: the folder exists and is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is there already and not empty; choose another folder, or delete it.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=".saving-", dir=folder.parent))
    try:
        _write_json(made / "config.json", config)
        _write_tensors(made, tensors, shard_bytes)
        if tokenizer is not None:
            (made / "tokenizer.json").write_text(tokenizer.to_json(), encoding="utf-8")
            described = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": tokenizer.max_length}
            _write_json(made / "tokenizer_config.json", described)
        made.chmod(0o755)
        os.replace(made, folder)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise


def _read_tokenizer(folder: Path, config: LanguageConfig) -> TextTokenizer | None:
    if not (folder / "tokenizer.json").is_file():
        return None
    limits = [config.max_length]
    # Sentence encoders are trained on shorter texts than they have positions for.
    for name, key in (("tokenizer_config.json", "model_max_length"), ("sentence_bert_config.json", "max_seq_length")):
        if (folder / name).is_file():
            limit = _read_json(folder / name).get(key)
            if limit is None:
                continue
            if isinstance(limit, bool) or not isinstance(limit, int | float) or not math.isfinite(limit) or limit < 1:
                raise ValueError(f"{folder / name}: {key} is {limit!r}; it must be a number of at least 1.")
            limits.append(int(limit))
    return read_tokenizer(folder / "tokenizer.json", min(limits))


def _read_tensors(folder: Path) -> dict[str, np.ndarray]:
    if not (folder / _INDEX).is_file():
        if not (folder / _WHOLE).is_file():
            raise ValueError(
                f"{folder} has neither {_WHOLE} nor {_INDEX}; convert other files with"
                " transformers: model.save_pretrained(folder)."
            )
        return _read_safetensors(folder / _WHOLE)
    files = _read_json(folder / _INDEX).get("weight_map", {})
    if not isinstance(files, dict):
        raise ValueError(f"{folder / _INDEX}: weight_map is a {type(files).__name__}; it must be an object.")
    for tensor, name in files.items():
        if not isinstance(name, str) or not _is_inside(name):
            raise ValueError(
                f"{folder / _INDEX}: weight_map[{tensor!r}] is {name!r}; it must be the name of a file in the folder."
            )
    missing = sorted(name for name in set(files.values()) if not (folder / name).is_file())
    if missing:
        raise ValueError(f"{folder} lacks {', '.join(missing)}, which {_INDEX} names.")
    tensors: dict[str, np.ndarray] = {}
    for name in sorted(set(files.values())):
        tensors |= _read_safetensors(folder / name)
    absent = sorted(set(files) - set(tensors))
    if absent:
        raise ValueError(f"{folder / _INDEX} names tensors that no file holds: {', '.join(absent[:5])}.")
    return tensors


def _is_inside(name: str) -> bool:
    """Whether a relative path stays in its folder, on any system; symbolic links are followed, as in Hugging Face's."""
    parts = name.replace("\\", "/").split("/")
    return name != "" and not name.startswith(("/", "\\")) and ":" not in name and ".." not in parts


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    safetensors = require("safetensors")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return {name: _tensor(file, name, path) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is truncated or no safetensors file: {error}") from None


def _tensor(file: Any, name: str, path: Path) -> np.ndarray:
    try:
        return file.get_tensor(name)
    except (AttributeError, TypeError):
        kind = file.get_slice(name).get_dtype()
        raise ValueError(f"{path}: the tensor {name!r} is of type {kind}, which NumPy does not know.") from None


def _write_tensors(folder: Path, tensors: dict[str, np.ndarray], shard_bytes: int) -> None:
    save_file = require("safetensors.numpy").save_file
    shards: list[dict[str, np.ndarray]] = [{}]
    for name, value in tensors.items():
        if shards[-1] and sum(other.nbytes for other in shards[-1].values()) + value.nbytes > shard_bytes:
            shards.append({})
        shards[-1][name] = value
    if len(shards) == 1:
        save_file(shards[0], folder / _WHOLE, metadata={"format": "pt"})
        return
    files = [f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors" for i in range(len(shards))]
    for file, shard in zip(files, shards, strict=True):
        save_file(shard, folder / file, metadata={"format": "pt"})
    total = sum(value.nbytes for value in tensors.values())
    weight_map = {name: file for file, shard in zip(files, shards, strict=True) for name in shard}
    _write_json(folder / _INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})


def as_dtype(tensors: dict[str, np.ndarray], dtype: str) -> dict[str, np.ndarray]:
    """The tensors in a float format.

    Raises:
      ValueError: there is no such format, or a number is beyond its range, NaN or infinite; names the tensor.
    """
    allowed = ("float32", "bfloat16", "float16")
    if dtype not in allowed:
        raise ValueError(f"dtype is {dtype!r}; choose one of {', '.join(map(repr, allowed))}.")
    return {name: _cast(value, dtype, name) for name, value in tensors.items()}


def _cast(value: np.ndarray, dtype: str, name: str) -> np.ndarray:
    check_finite(np.asarray(value, np.float32), f"The tensor {name}")
    with np.errstate(over="ignore"):
        cast = value.astype(jnp.dtype(dtype))
    if not np.isfinite(cast.astype(np.float32)).all():
        largest = value.flat[int(np.argmax(np.abs(value)))]
        wider = "'bfloat16' or 'float32'" if dtype == "float16" else "'float32'"
        raise ValueError(
            f"The tensor {name} holds {largest}, beyond {float(jnp.finfo(dtype).max):,.6g}, the largest {dtype};"
            f" save with dtype {wider}."
        )
    return cast


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"There is no {path}; a folder of a language model has one.")
    try:
        found = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: not JSON ({error.msg}).") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds a {type(found).__name__}; it must be a JSON object.")
    return found


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
