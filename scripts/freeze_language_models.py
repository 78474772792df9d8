#!/usr/bin/env python3
"""Freezes what PyTorch says of tiny language models into tests/language/frozen/.

usage: freeze_language_models.py      (in an environment with transformers and torch, recjax is not needed)

The weights are made by NumPy from a seed, here and again by the tests, so only what comes out is kept.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

FROZEN = Path(__file__).resolve().parents[1] / "tests" / "language" / "frozen"

VOCABULARY, DIM, LAYERS, WIDE, LENGTH = 61, 16, 3, 40, 24

# Values away from the defaults of the libraries, so that a key that is not read shows.
CONFIGS: dict[str, dict[str, Any]] = {
    "bert": {
        "model_type": "bert", "vocab_size": VOCABULARY, "hidden_size": DIM, "num_hidden_layers": LAYERS,
        "num_attention_heads": 4, "intermediate_size": WIDE, "max_position_embeddings": LENGTH, "type_vocab_size": 2,
        "hidden_act": "gelu", "layer_norm_eps": 1e-3, "hidden_dropout_prob": 0.2, "pad_token_id": 0,
    },
    "gpt2": {
        "model_type": "gpt2", "vocab_size": VOCABULARY, "n_embd": DIM, "n_layer": LAYERS, "n_head": 4, "n_inner": WIDE,
        "n_positions": LENGTH, "activation_function": "gelu_new", "layer_norm_epsilon": 1e-3, "bos_token_id": 1,
        "eos_token_id": 2,
    },
    "llama": {
        "model_type": "llama", "vocab_size": VOCABULARY, "hidden_size": DIM, "num_hidden_layers": LAYERS,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 6, "intermediate_size": WIDE,
        "max_position_embeddings": LENGTH, "hidden_act": "silu", "rms_norm_eps": 1e-3, "rope_theta": 500.0,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500.0}, "tie_word_embeddings": True,
        "bos_token_id": 1, "eos_token_id": 2,
    },
    "llama-untied": {
        "model_type": "llama", "vocab_size": VOCABULARY, "hidden_size": DIM, "num_hidden_layers": LAYERS,
        "num_attention_heads": 4, "num_key_value_heads": 1, "intermediate_size": WIDE,
        "max_position_embeddings": LENGTH, "hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}, "tie_word_embeddings": False,
        "attention_bias": True, "mlp_bias": True, "bos_token_id": 1, "eos_token_id": 2,
    },
}  # fmt: skip
CLASSES = {
    "bert": "BertForMaskedLM", "gpt2": "GPT2LMHeadModel", "llama": "LlamaForCausalLM",
    "llama-untied": "LlamaForCausalLM",
}  # fmt: skip


def shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors in Hugging Face's files; torch refuses any other (``strict=True``)."""
    found: dict[str, tuple[int, ...]] = {}
    if name == "bert":
        for kind, rows in (("word", VOCABULARY), ("position", LENGTH), ("token_type", 2)):
            found[f"bert.embeddings.{kind}_embeddings.weight"] = (rows, DIM)
        norms, dense = ["bert.embeddings.LayerNorm"], {}
        for i in range(LAYERS):
            at = f"bert.encoder.layer.{i}"
            norms += [f"{at}.attention.output.LayerNorm", f"{at}.output.LayerNorm"]
            dense |= {f"{at}.attention.self.{part}": (DIM, DIM) for part in ("query", "key", "value")}
            dense |= {f"{at}.attention.output.dense": (DIM, DIM)}
            dense |= {f"{at}.intermediate.dense": (WIDE, DIM), f"{at}.output.dense": (DIM, WIDE)}
        norms += ["cls.predictions.transform.LayerNorm"]
        dense["cls.predictions.transform.dense"] = (DIM, DIM)
        found["cls.predictions.bias"] = (VOCABULARY,)
        for norm in norms:
            found |= {f"{norm}.weight": (DIM,), f"{norm}.bias": (DIM,)}
        for layer, shape in dense.items():
            found |= {f"{layer}.weight": shape, f"{layer}.bias": shape[:1]}
        return found
    if name == "gpt2":
        found = {"transformer.wte.weight": (VOCABULARY, DIM), "transformer.wpe.weight": (LENGTH, DIM)}
        norms, dense = ["transformer.ln_f"], {}
        for i in range(LAYERS):
            at = f"transformer.h.{i}"
            norms += [f"{at}.ln_1", f"{at}.ln_2"]
            # Conv1D keeps its weight as [in, out].
            dense |= {f"{at}.attn.c_attn": (DIM, 3 * DIM), f"{at}.attn.c_proj": (DIM, DIM)}
            dense |= {f"{at}.mlp.c_fc": (DIM, WIDE), f"{at}.mlp.c_proj": (WIDE, DIM)}
        for norm in norms:
            found |= {f"{norm}.weight": (DIM,), f"{norm}.bias": (DIM,)}
        for layer, shape in dense.items():
            found |= {f"{layer}.weight": shape, f"{layer}.bias": shape[1:]}
        return found
    config = CONFIGS[name]
    head = config.get("head_dim", DIM // config["num_attention_heads"])
    query, kv = head * config["num_attention_heads"], head * config["num_key_value_heads"]
    found = {"model.embed_tokens.weight": (VOCABULARY, DIM), "model.norm.weight": (DIM,)}
    if not config["tie_word_embeddings"]:
        found["lm_head.weight"] = (VOCABULARY, DIM)
    for i in range(LAYERS):
        at = f"model.layers.{i}"
        found |= {f"{at}.input_layernorm.weight": (DIM,), f"{at}.post_attention_layernorm.weight": (DIM,)}
        dense = {
            "self_attn.q_proj": (query, DIM), "self_attn.k_proj": (kv, DIM), "self_attn.v_proj": (kv, DIM),
            "self_attn.o_proj": (DIM, query), "mlp.gate_proj": (WIDE, DIM), "mlp.up_proj": (WIDE, DIM),
            "mlp.down_proj": (DIM, WIDE),
        }  # fmt: skip
        for layer, shape in dense.items():
            found[f"{at}.{layer}.weight"] = shape
            if config.get("attention_bias"):
                found[f"{at}.{layer}.bias"] = shape[:1]
    return found


def tensors(name: str) -> dict[str, np.ndarray]:
    """The weights, float32 by name, large enough that every part of the model counts."""
    rng = np.random.default_rng(sum(map(ord, name)))
    made = {}
    for tensor, shape in sorted(shapes(name).items()):
        values = rng.normal(scale=0.3, size=shape)
        is_norm = len(shape) == 1 and tensor.endswith("weight")
        made[tensor] = (1 + values if is_norm else values).astype(np.float32)
    return made


def inputs() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``ids, mask, segments`` of four texts of 12, 7, 1 and 9 tokens, padded on the right."""
    rng = np.random.default_rng(7)
    mask = np.arange(12)[None] < np.array([12, 7, 1, 9])[:, None]
    ids = np.where(mask, rng.integers(3, VOCABULARY, mask.shape), 0)
    return ids, mask, np.where(mask, rng.integers(0, 2, mask.shape), 0)


def freeze() -> None:
    """Runs the models of PyTorch."""
    import torch
    import transformers

    for name, values in CONFIGS.items():
        config = transformers.AutoConfig.for_model(**values)
        model = getattr(transformers, CLASSES[name])(config).eval()
        weights = {tensor: torch.tensor(value) for tensor, value in tensors(name).items()}
        if name == "bert":
            weights["cls.predictions.decoder.bias"] = weights["cls.predictions.bias"]
            weights["cls.predictions.decoder.weight"] = weights["bert.embeddings.word_embeddings.weight"]
        elif values.get("tie_word_embeddings", True):
            word = "transformer.wte.weight" if name == "gpt2" else "model.embed_tokens.weight"
            weights["lm_head.weight"] = weights[word]
        model.load_state_dict(weights, strict=True)
        ids, mask, segments = (torch.tensor(x) for x in inputs())
        arguments = {"input_ids": ids, "attention_mask": mask.long(), "output_hidden_states": True}
        with torch.no_grad():
            out = model(**arguments, **({"token_type_ids": segments} if name == "bert" else {}))
            expected = {"logits": out.logits, "hidden": out.hidden_states[-1], "middle": out.hidden_states[1]}
            if name != "bert":
                expected["greedy"] = model.generate(
                    ids[:2, :6], attention_mask=torch.ones(2, 6, dtype=torch.long), max_new_tokens=10,
                    min_new_tokens=10, do_sample=False, pad_token_id=0, eos_token_id=None,
                )[:, 6:]  # fmt: skip
        kept = {k: v.numpy() if k == "greedy" else v[mask].numpy() for k, v in expected.items()}
        FROZEN.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(FROZEN / f"{name}.npz", **kept)
        print(name, {k: v.shape for k, v in kept.items()}, (FROZEN / f"{name}.npz").stat().st_size, "bytes")


if __name__ == "__main__":
    freeze()
