"""Contents of config.json, supported and not."""

from __future__ import annotations

import dataclasses

import pytest

from recjax import language

LLAMA = {
    "model_type": "llama", "vocab_size": 64, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 16, "max_position_embeddings": 32,
}  # fmt: skip
BERT = {
    "model_type": "bert", "vocab_size": 64, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 16, "max_position_embeddings": 32,
}  # fmt: skip
GPT2 = {"model_type": "gpt2", "vocab_size": 64, "n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 32}


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama", "llama-untied"])
def test_config_survives_a_round_trip(name, frozen):
    config = language.from_hugging_face(frozen.CONFIGS[name])
    assert language.from_hugging_face(language.to_hugging_face(config)) == config


def test_hugging_faces_defaults():
    assert language.from_hugging_face(LLAMA).tie_embeddings is False
    assert language.from_hugging_face(LLAMA).norm_eps == 1e-6
    assert language.from_hugging_face(BERT).norm_eps == 1e-12
    assert language.from_hugging_face(BERT).activation == "gelu"
    assert language.from_hugging_face(GPT2).activation == "gelu_tanh"
    assert language.from_hugging_face(GPT2).feed_forward == 32


def test_rope_theta_of_either_place():
    assert language.from_hugging_face({**LLAMA, "rope_theta": 5.0}).rope_theta == 5.0
    nested = {"rope_parameters": {"rope_type": "default", "rope_theta": 7.0}}
    assert language.from_hugging_face({**LLAMA, **nested}).rope_theta == 7.0
    assert language.from_hugging_face({**LLAMA, "rope_scaling": None}).rope_theta == 10_000.0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({**BERT, "model_type": "t5"}, r"config.json: model_type is 't5'; supported: bert, gpt2, llama\."),
        ({}, "model_type is None"),
        ({**BERT, "hidden_act": "mish"}, "hidden_act is 'mish'; supported: gelu, gelu_new"),
        ({**BERT, "position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'; supported"),
        ({**BERT, "is_decoder": True}, r"is_decoder is True; supported: False\."),
        ({**GPT2, "scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx is True"),
        ({**LLAMA, "rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling is {'type': 'linear'"),
        ({**LLAMA, "rope_parameters": {"rope_type": "yarn"}}, "rope_scaling is {'rope_type': 'yarn'}; supported: None"),
        ({**LLAMA, "num_key_value_heads": 3}, "num_kv_heads is 3, which does not divide num_heads 4"),
        ({**LLAMA, "head_dim": 3}, "head_dim is 3; rotary positions need an even one"),
        ({**BERT, "num_attention_heads": 3}, "num_heads is 3, which does not divide dim 8"),
        ({**BERT, "num_hidden_layers": 0}, "num_layers is 0; it must be an integer of at least 1"),
        ({**BERT, "hidden_size": "8"}, "dim is '8'; it must be an integer"),
        ({**BERT, "hidden_dropout_prob": 1.0}, "dropout is 1.0"),
        ({k: v for k, v in BERT.items() if k != "hidden_size"}, "the key 'hidden_size' is missing"),
    ],
)
def test_what_is_not_supported_is_said(values, message):
    with pytest.raises(ValueError, match=message):
        language.from_hugging_face(values)


def test_choices_are_checked():
    config = language.from_hugging_face(BERT)
    with pytest.raises(ValueError, match="family is 'opt'; choose one of 'bert', 'gpt2', 'llama'"):
        dataclasses.replace(config, family="opt")
    with pytest.raises(ValueError, match="activation is 'tanh'; choose one of"):
        dataclasses.replace(config, activation="tanh")
