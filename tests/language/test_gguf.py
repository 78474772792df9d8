"""GGUF files that the test writes, as llama.cpp does, and reads back."""

from __future__ import annotations

import dataclasses
import json
import re

import gguf
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers
from safetensors.numpy import load_file

from recjax import language

BACK = {
    r"model.embed_tokens": "token_embd", r"model.norm": "output_norm", r"lm_head": "output",
    r"model.layers.(\d+).input_layernorm": r"blk.\1.attn_norm",
    r"model.layers.(\d+).self_attn.q_proj": r"blk.\1.attn_q",
    r"model.layers.(\d+).self_attn.k_proj": r"blk.\1.attn_k", r"model.layers.(\d+).self_attn.v_proj": r"blk.\1.attn_v",
    r"model.layers.(\d+).self_attn.o_proj": r"blk.\1.attn_output",
    r"model.layers.(\d+).post_attention_layernorm": r"blk.\1.ffn_norm",
    r"model.layers.(\d+).mlp.gate_proj": r"blk.\1.ffn_gate", r"model.layers.(\d+).mlp.up_proj": r"blk.\1.ffn_up",
    r"model.layers.(\d+).mlp.down_proj": r"blk.\1.ffn_down",
}  # fmt: skip
SENTENCES = ["The capital of France", " twenty 2001  spaces", "Amélie 七人の侍", "<|end|> is special", ""]


@pytest.fixture(scope="module")
def bpe():
    """A byte-level tokenizer that splits digits, as SmolLM's does."""
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [tokenizers.pre_tokenizers.Digits(individual_digits=True), tokenizers.pre_tokenizers.ByteLevel(False)]
    )
    made.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=320, special_tokens=["<|end|>"], initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(SENTENCES * 3, trainer)
    return made


@pytest.fixture(scope="module")
def tensors(frozen, bpe):
    """Those of the frozen Llama, with more words."""
    found = frozen.tensors("llama")
    rng = np.random.default_rng(3)
    found["model.embed_tokens.weight"] = rng.normal(size=(bpe.get_vocab_size(), 16)).astype(np.float32)
    return found


def interleave(weight, heads):
    """llama.cpp's permutation, as its converter writes it."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def write(path, tensors, bpe, *, quantization=None, leave_out=(), tensor=None, **changes):
    """A file as llama.cpp's converter writes it, with changes that spoil it."""
    writer = gguf.GGUFWriter(path, changes.get("architecture", "llama"))
    query = tensors["model.layers.0.self_attn.q_proj.weight"]
    writer.add_context_length(24)
    writer.add_embedding_length(query.shape[1])
    writer.add_block_count(3)
    writer.add_feed_forward_length(len(tensors["model.layers.0.mlp.up_proj.weight"]))
    if "head_count" not in leave_out:
        writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_key_length(len(query) // 4)
    writer.add_layer_norm_rms_eps(1e-3)
    writer.add_rope_freq_base(500.0)
    if "scaling" in changes:
        writer.add_rope_scaling_type(changes["scaling"])
    for key, value in changes.get("rope", {}).items():
        add = writer.add_uint32 if isinstance(value, int) else writer.add_float32
        add(f"llama.rope.{key}", value)
    vocabulary = sorted(bpe.get_vocab(), key=bpe.get_vocab().get)
    merges = [" ".join(pair) for pair in json.loads(bpe.to_str())["model"]["merges"]]
    writer.add_tokenizer_model(changes.get("tokenizer", "gpt2"))
    if "pre" not in leave_out:
        writer.add_tokenizer_pre(changes.get("pre", "smollm"))
    writer.add_token_list(vocabulary)
    writer.add_token_types([3 if token == "<|end|>" else 1 for token in vocabulary])
    if "merges" not in leave_out:
        writer.add_token_merges([*merges, *changes.get("merges", [])])
    writer.add_bos_token_id(changes.get("bos_id", 0))
    writer.add_eos_token_id(0)
    writer.add_add_bos_token(changes.get("bos", False))
    for name, value in tensors.items():
        for pattern, replacement in BACK.items():
            name = re.sub(f"^{pattern}", replacement, name)
        if "attn_q" in name or "attn_k" in name:
            value = interleave(value, 4 if "attn_q" in name else 2)
        if quantization and value.ndim == 2:
            writer.add_tensor(name, gguf.quants.quantize(value, quantization), raw_dtype=quantization)
        else:
            writer.add_tensor(name, value)
    if tensor:
        writer.add_tensor(tensor, np.zeros(4, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_weights_and_tokens_come_back(tensors, bpe, tmp_path, frozen):
    model = language.load(write(tmp_path / "tiny.gguf", tensors, bpe))
    expected = language.from_hugging_face(
        {**frozen.CONFIGS["llama"], "vocab_size": bpe.get_vocab_size(), "bos_token_id": 0, "eos_token_id": 0}
    )
    assert model.config == expected
    language.save(model, tmp_path / "folder")
    again = language.load(tmp_path / "folder")
    jax.tree.map(np.testing.assert_array_equal, again.params, model.params)
    saved = load_file(tmp_path / "folder" / "model.safetensors")
    assert saved.keys() == tensors.keys()
    for name, value in tensors.items():
        np.testing.assert_array_equal(saved[name], value, err_msg=name)
    for tokenizer in (model.tokenizer, again.tokenizer):
        parsing = dataclasses.replace(tokenizer, parse_special=True)
        for sentence, found in zip(SENTENCES, parsing(SENTENCES), strict=True):
            assert found.tolist() == bpe.encode(sentence).ids[:24]
            assert tokenizer.decode(found) == bpe.decode(bpe.encode(sentence).ids[:24])
        # Special tokens in a text are text, whole.
        (ids,) = tokenizer(["<|end|> is special"])
        assert 0 not in ids
        assert tokenizer.decode(ids) == "<|end|> is special"


def test_without_the_permutation_it_would_be_another_model(tensors):
    weight = tensors["model.layers.0.self_attn.q_proj.weight"]
    assert not np.array_equal(interleave(weight, 4), weight)


@pytest.mark.parametrize(("kind", "within"), [("Q8_0", 0.01), ("Q4_1", 0.1), ("F16", 0.001), ("BF16", 0.01)])
def test_quantised_weights_are_near(kind, within, tensors, bpe, tmp_path):
    rng = np.random.default_rng(4)
    rows = {16: 32, 24: 32, 12: 16, 40: 64}  # Quantised rows are made of blocks of 32.
    wide = {
        name: rng.normal(size=[rows.get(size, size) for size in value.shape]).astype(np.float32)
        for name, value in tensors.items()
    }
    exact = language.load(write(tmp_path / "exact.gguf", wide, bpe))
    quantization = gguf.GGMLQuantizationType[kind]
    near = language.load(write(tmp_path / "near.gguf", wide, bpe, quantization=quantization))
    differ = False
    for one, other in zip(jax.tree.leaves(exact.params), jax.tree.leaves(near.params), strict=True):
        assert other.dtype == jnp.float32
        assert np.abs(one - other).max() < within * np.abs(one).max()
        differ |= not np.array_equal(one, other)
    assert differ


def test_a_beginning_of_text_token_is_added_where_the_file_says_so(tensors, bpe, tmp_path):
    model = language.load(write(tmp_path / "bos.gguf", tensors, bpe, bos=True))
    ids = model.tokenizer(["a", ""])
    assert [found[0] for found in ids] == [0, 0]
    assert ids[0][1:].tolist() == bpe.encode("a").ids


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"architecture": "gemma"}, r"general\.architecture is 'gemma'; supported in GGUF files: 'llama'"),
        ({"leave_out": ("head_count",)}, r"the key 'llama\.attention\.head_count' is missing"),
        ({"scaling": gguf.RopeScalingType.YARN}, r"rope\.scaling\.type is 'yarn'; supported: 'none'"),
        ({"rope": {"scaling.factor": 8.0}}, r"llama\.rope\.scaling\.factor is 8\.0; supported: 1"),
        ({"rope": {"scale_linear": 4.0}}, r"llama\.rope\.scale_linear is 4\.0; supported: 1"),
        ({"rope": {"scaling.attn_factor": 1.5}}, r"llama\.rope\.scaling\.attn_factor is 1\.5; supported: 1"),
        ({"rope": {"dimension_count": 4}}, r"llama\.rope\.dimension_count is 4; supported: 6, the width of a head"),
        ({"scaling": gguf.RopeScalingType.LINEAR}, r"rope\.scaling\.type is 'linear'; supported: 'none'"),
        ({"scaling": gguf.RopeScalingType.LONGROPE}, r"rope\.scaling\.type is 'longrope'; supported: 'none'"),
        ({"tokenizer": "llama"}, r"tokenizer\.ggml\.model is 'llama'; supported: 'gpt2'"),
        ({"pre": "qwen2"}, r"tokenizer\.ggml\.pre is 'qwen2'; supported: 'gpt-2'"),
        ({"pre": "default"}, r"tokenizer\.ggml\.pre is 'default'; supported: 'gpt-2'"),
        ({"leave_out": ("pre",)}, r"tokenizer\.ggml\.pre is None; supported: 'gpt-2'"),
        ({"leave_out": ("merges",)}, r"bad\.gguf: the key 'tokenizer\.ggml\.merges' is missing"),
        ({"merges": ["unheard of"]}, r"bad\.gguf: tokenizer\.ggml\.merges does not fit tokenizer\.ggml\.tokens"),
        ({"bos": True, "bos_id": 9999}, r"bos_token_id is 9999; it must be one of the \d+ tokens"),
        ({"tensor": "rope_freqs.weight"}, r"no place for the tensor 'rope_freqs\.weight'"),
    ],
)
def test_what_is_not_supported_is_said(options, message, tensors, bpe, tmp_path):
    with pytest.raises(ValueError, match=message):
        language.load(write(tmp_path / "bad.gguf", tensors, bpe, **options))


@pytest.mark.parametrize(
    "options",
    [
        {"rope": {"scaling.factor": 1.0, "scale_linear": 0.0, "dimension_count": 6}},
        {"rope": {"scaling.factor": 8.0}, "scaling": gguf.RopeScalingType.NONE},
    ],
)
def test_scaling_that_scales_nothing_is_read(options, tensors, bpe, tmp_path):
    plain = language.load(write(tmp_path / "plain.gguf", tensors, bpe))
    scaled = language.load(write(tmp_path / "scaled.gguf", tensors, bpe, **options))
    jax.tree.map(np.testing.assert_array_equal, scaled.params, plain.params)


def test_weights_that_are_not_finite_are_named(tensors, bpe, tmp_path):
    name = "model.layers.1.mlp.up_proj.weight"
    weight = tensors[name].copy()
    weight[3, 4] = np.inf
    with pytest.raises(ValueError, match=rf"bad\.gguf: {name} holds inf at \[3, 4\]"):
        language.load(write(tmp_path / "bad.gguf", tensors | {name: weight}, bpe))


def test_a_tied_model_loads_from_its_output_alone(tensors, bpe, tmp_path):
    words = tensors["model.embed_tokens.weight"]
    alone = {name: value for name, value in tensors.items() if "embed_tokens" not in name} | {"lm_head.weight": words}
    found = language.load(write(tmp_path / "output.gguf", alone, bpe))
    plain = language.load(write(tmp_path / "plain.gguf", tensors, bpe))
    assert found.config == plain.config
    jax.tree.map(np.testing.assert_array_equal, found.params, plain.params)


def test_whatever_is_done_to_a_file_is_one_value_error(tensors, bpe, tmp_path, refusal):
    path = write(tmp_path / "bad.gguf", tensors, bpe)
    content, rng, refused = path.read_bytes(), np.random.default_rng(0), 0
    for _ in range(60):
        changed = bytearray(content)
        for _ in range(rng.integers(1, 4)):
            at = int(rng.integers(len(content) // 2))
            changed[at : at + 8] = rng.bytes(8) if rng.integers(2) else bytes(8)
        path.write_bytes(changed)
        message = refusal(path)
        if message is not None:
            refused += 1
            assert str(path) in message or "do not belong together" in message
    assert refused > 20


def test_queries_of_another_shape_are_named(tensors, bpe, tmp_path):
    name = "model.layers.1.self_attn.q_proj.weight"
    with pytest.raises(ValueError, match=r"blk\.1\.attn_q\.weight has shape \(8, 16\); 4 heads of 6"):
        language.load(write(tmp_path / "bad.gguf", tensors | {name: tensors[name][:8]}, bpe))


def test_missing_tensor(tensors, bpe, tmp_path):
    lacking = {name: value for name, value in tensors.items() if name != "model.norm.weight"}
    with pytest.raises(ValueError, match=r"the llama lacks tensors: model\.norm\.weight"):
        language.load(write(tmp_path / "bad.gguf", lacking, bpe))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_truncated_file(share, tensors, bpe, tmp_path):
    path = write(tmp_path / "bad.gguf", tensors, bpe)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match="is truncated or no GGUF file"):
        language.load(path)


def test_another_file(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"not a model " * 100)
    with pytest.raises(ValueError, match="is truncated or no GGUF file"):
        language.load(tmp_path / "model.bin")
