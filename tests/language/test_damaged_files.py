"""Files that are damaged, hostile or of diverged models: refused by name, in no time and little memory."""

from __future__ import annotations

import json
import shutil
import struct
import time

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from recjax import language

QUERY = "model.layers.1.self_attn.q_proj.weight"


@pytest.fixture
def folder(folders, tmp_path):
    """A copy to spoil."""
    return shutil.copytree(folders["llama"], tmp_path / "copy")


def change_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_tensors(folder, **changes):
    save_file(load_file(folder / "model.safetensors") | changes, folder / "model.safetensors")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_named(value, folder):
    weight = load_file(folder / "model.safetensors")[QUERY]
    weight[2, 5] = value
    change_tensors(folder, **{QUERY: weight})
    with pytest.raises(ValueError, match=rf"{QUERY} holds {value} at \[2, 5\], one of 1 numbers that are not finite"):
        language.load(folder)


def test_unused_tensors_that_are_not_finite_are_named(folders, tmp_path):
    folder = shutil.copytree(folders["bert"], tmp_path / "copy")
    change_tensors(folder, **{"bert.pooler.dense.bias": np.full(16, np.nan, np.float32)})
    with pytest.raises(ValueError, match=r"bert\.pooler\.dense\.bias holds nan at \[0\]"):
        language.load(folder)


def replaced(model, path, value):
    """The model with one number of one parameter changed."""
    params = jax.tree.map(lambda leaf: leaf, model.params)
    leaf = params["params"][path[0]][path[1]]
    params["params"][path[0]][path[1]] = leaf.at[(0,) * leaf.ndim].set(value)
    return language.LanguageModel(model.config, model.module, params, model.tokenizer)


@pytest.mark.parametrize(
    ("value", "dtype", "message"),
    [
        (
            70_000.0,
            "float16",
            r"model\.norm\.weight holds 70000\.0, beyond 65,504, the largest float16; .*'bfloat16' or",
        ),
        (-1e9, "float16", r"holds -1000000000\.0, beyond 65,504"),
        (3.4e38, "bfloat16", r"the largest bfloat16; save with dtype 'float32'"),
        (np.nan, "float32", r"The tensor model\.norm\.weight holds nan at \[0\]"),
        (np.inf, "float16", r"The tensor model\.norm\.weight holds inf at \[0\]"),
    ],
)
def test_numbers_beyond_a_format_are_not_saved(value, dtype, message, models, tmp_path):
    model = replaced(models["llama"], ("final_norm", "scale"), value)
    with pytest.raises(ValueError, match=message):
        language.save(model, tmp_path / "saved", dtype=dtype)
    assert not list(tmp_path.iterdir())


def test_the_largest_numbers_of_a_format_are_saved(models, tmp_path):
    language.save(replaced(models["llama"], ("final_norm", "scale"), 65_504.0), tmp_path / "half", dtype="float16")
    assert language.load(tmp_path / "half").params["params"]["final_norm"]["scale"][0] == 65_504


@pytest.mark.parametrize(("name", "words"), [("llama", "model.embed_tokens.weight"), ("gpt2", "transformer.wte.weight"),
                                             ("bert", "bert.embeddings.word_embeddings.weight")])  # fmt: skip
def test_a_tied_model_loads_from_the_copy_of_its_embeddings(name, words, folders, models, tmp_path):
    folder = shutil.copytree(folders[name], tmp_path / "copy")
    tensors = load_file(folder / "model.safetensors")
    copy = "cls.predictions.decoder.weight" if name == "bert" else "lm_head.weight"
    save_file(tensors | {copy: tensors.pop(words)}, folder / "model.safetensors")
    jax.tree.map(np.testing.assert_array_equal, language.load(folder).params, models[name].params)


def test_an_untied_model_needs_both(folders, tmp_path):
    folder = shutil.copytree(folders["llama-untied"], tmp_path / "copy")
    tensors = load_file(folder / "model.safetensors")
    tensors.pop("model.embed_tokens.weight")
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"the llama lacks tensors: model\.embed_tokens\.weight"):
        language.load(folder)


@pytest.mark.parametrize(
    "name", ["../outside.safetensors", "/tmp/outside.safetensors", "a/../../outside.safetensors",
             "..\\outside.safetensors", "C:\\outside.safetensors", "", 7, ["model.safetensors"], None]
)  # fmt: skip
def test_an_index_may_not_name_files_outside_of_its_folder(name, folder, folders):
    shutil.copy(folders["llama"] / "model.safetensors", folder.parent / "outside.safetensors")
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {QUERY: name}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"index\.json: weight_map\[.*it must be the name of a file in the folder"):
        language.load(folder)


def test_shards_may_be_symbolic_links(folder, tmp_path):
    """As in the cache of Hugging Face."""
    before = language.load(folder)
    names = list(load_file(folder / "model.safetensors"))
    (folder / "model.safetensors").rename(tmp_path / "blob")
    (folder / "all.safetensors").symlink_to(tmp_path / "blob")
    index = {"weight_map": dict.fromkeys(names, "all.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    jax.tree.map(np.testing.assert_array_equal, language.load(folder).params, before.params)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_hidden_layers": 2**30}, "by its config num_layers is 1,073,741,824, but the tensors have"),
        ({"vocab_size": 10**9}, r"by its config vocab_size \* dim is 16,000,000,000, but"),
        ({"intermediate_size": 2**31 - 1}, r"by its config feed_forward \* dim is"),
        ({"hidden_size": 10**30}, "dim is 10{30}; it must be an integer of at least 1 and at most 2,147,483,647"),
        ({"head_dim": "6"}, "head_dim is '6'; it must be an integer"),
        ({"rope_parameters": {"rope_theta": float("inf")}}, "rope_theta is inf; it must be a finite number"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 0.0}}, "rope_theta is 0"),
        ({"bos_token_id": [1]}, r"bos_id is \[1\]; it must be an integer"),
        ({"eos_token_id": []}, r"eos_id is \[\]; it must be an integer"),
        ({"tie_word_embeddings": "yes"}, "tie_embeddings is 'yes'; it must be true or false"),
        ({"rope_scaling": [2.0]}, r"rope_scaling is \[2\.0\]; it must be an object"),
        ({"rope_scaling": {"factor": 8.0}}, r"rope_scaling is {'factor': 8\.0}; supported: None"),
        ({"rope_parameters": {"factor": 8.0}}, r"rope_scaling is {'factor': 8\.0}; supported: None"),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "rope_scaling is {'rope_type': 'dynamic'"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": {"rope_type": "default"}},
         "rope_scaling is {'type': 'linear'"),
        ({"partial_rotary_factor": 0.5}, r"partial_rotary_factor is 0\.5; supported"),
    ],
)  # fmt: skip
def test_configs_beyond_the_file_or_of_other_types_are_named(changes, message, folder):
    change_json(folder / "config.json", **changes)
    begun = time.monotonic()
    with pytest.raises(ValueError, match=message):
        language.load(folder)
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize("limit", [float("inf"), float("nan"), -3, True, [5]])
def test_limits_of_a_tokenizer_are_numbers(limit, folder):
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": limit}))
    with pytest.raises(ValueError, match=r"tokenizer_config\.json: model_max_length is .*number of at least 1"):
        language.load(folder)


def test_what_has_a_form_that_nobody_foresaw_is_named(folder):
    (folder / "config.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"copy is damaged, or holds values of unexpected types \(RecursionError"):
        language.load(folder)


def mutated(content, rng):
    """A few bytes changed, cut or repeated."""
    content = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        at, kind = int(rng.integers(len(content))), rng.integers(4)
        if kind == 0:
            content[at] = rng.integers(256)
        elif kind == 1:
            content[at : at + 8] = struct.pack("<Q", int(rng.integers(2**63)))
        elif kind == 2:
            del content[at : at + int(rng.integers(1, 30))]
        else:
            content[at:at] = content[at : at + int(rng.integers(1, 30))]
    return bytes(content)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_whatever_is_done_to_a_folder_is_one_value_error(name, folder, refusal):
    rng = np.random.default_rng(0)
    whole, refused = (folder / name).read_bytes(), 0
    # Of tensors the header, since few bytes of it are in so large a file.
    part = 8 + int.from_bytes(whole[:8], "little") if name == "model.safetensors" else len(whole)
    for _ in range(60):
        (folder / name).write_bytes(mutated(whole[:part], rng) + whole[part:])
        message = refusal(folder)
        if message is not None:
            refused += 1
            assert str(folder) in message or "do not belong together" in message
    assert refused > 20


def header(*keys, tensors=(), version=3):
    """A GGUF header of encoded keys and ``(axes, type, offset)`` of tensors."""
    body = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(keys)) + b"".join(keys)
    for axes, kind, offset in tensors:
        body += text("t") + struct.pack("<I", len(axes)) + struct.pack(f"<{len(axes)}Q", *axes)
        body += struct.pack("<IQ", kind, offset)
    return body


def text(value):
    return struct.pack("<Q", len(value)) + value.encode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (header(text("a") + struct.pack("<IIQ", 9, 0, 2**60)), "its header reaches beyond its end"),
        (header(text("a") + struct.pack("<IIQ", 9, 12, 2**61)), "its header reaches beyond its end"),
        (header(text("a") + struct.pack("<IIQ", 9, 8, 2**60)), "its header reaches beyond its end"),
        (header(text("a") + struct.pack("<IIQ", 9, 9, 2**60)), "an array of elements of type 9"),
        (header(text("a") + struct.pack("<IQ", 8, 2**63)), "its header reaches beyond its end"),
        (header(text("a") + struct.pack("<I", 77)), "a value of type 77"),
        (header(struct.pack("<Q", 2**62)), "its header reaches beyond its end"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**60, 0), "its header reaches beyond its end"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**60), "its header reaches beyond its end"),
        (header(tensors=[((2**40, 2**30), 0, 0)]), "its tensors need"),
        (header(tensors=[((4,), 0, 2**50)]), "its tensors need"),
        (header(tensors=[((1,) * 5, 0, 0)]), "a tensor of 5 axes"),
        (header(tensors=[((4,), 99, 0)]), "a tensor of type 99"),
        (header(text("general.alignment") + struct.pack("<II", 4, 0)), "is truncated or no GGUF file"),
        (b"", "it is shorter than a header"),
        (b"GGML" + bytes(60), "it does not begin with GGUF"),
    ],
)  # fmt: skip
def test_sizes_in_the_header_of_gguf_are_not_believed(content, message, tmp_path):
    path = tmp_path / "bad.gguf"
    path.write_bytes(content + bytes(64) if len(content) > 60 else content)
    begun = time.monotonic()
    with pytest.raises(ValueError, match=rf"bad\.gguf is truncated or no GGUF file: .*{message}|{message}"):
        language.load(path)
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("size", [2**62, 2**40, 200_000])
def test_sizes_in_the_header_of_safetensors_are_not_believed(size, folder):
    path = folder / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(struct.pack("<Q", size) + content[8:])
    with pytest.raises(ValueError, match=r"model\.safetensors is truncated or no safetensors file"):
        language.load(folder)
    told = {QUERY: {"dtype": "F32", "shape": [2**40, 2**20], "data_offsets": [0, 2**62]}}
    written = json.dumps(told).encode()
    path.write_bytes(struct.pack("<Q", len(written)) + written)
    with pytest.raises(ValueError, match=r"model\.safetensors is truncated or no safetensors file"):
        language.load(folder)
