"""How long PyTorch takes for what ``language_steps.py`` measures; runs in an environment of its own.

    python _torch_language_steps.py FOLDER DTYPE TEXTS TOKENS RANK SECONDS

Prints one line of JSON: seconds of one encoding and of each kind of step, versions.
"""

import json
import statistics
import sys
import time
from importlib import metadata

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModel, AutoModelForCausalLM

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def clock(work, seconds):
    """Median seconds of a call, after one that does not count."""
    work()
    times = []
    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds or len(times) < 5:
        start = time.perf_counter()
        work()
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def pairs_loss(model, ids):
    """Pooled texts of the first half tell their partners of the second from all others, and the other way round."""
    vectors = torch.nn.functional.normalize(model(input_ids=ids).last_hidden_state.mean(dim=1), dim=-1)
    scores = vectors @ vectors.T / 0.05
    scores = scores.masked_fill(torch.eye(len(ids), dtype=torch.bool, device=ids.device), float("-inf"))
    half = len(ids) // 2
    partner = torch.cat([torch.arange(half, 2 * half), torch.arange(half)]).to(ids.device)
    return torch.nn.functional.cross_entropy(scores, partner)


def main(folder, dtype, texts, tokens, rank, seconds):
    """Measures and prints."""
    causal = json.load(open(f"{folder}/config.json", encoding="utf-8"))["model_type"] != "bert"  # noqa: SIM115
    kind = AutoModelForCausalLM if causal else AutoModel
    kinds = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    found = {}
    for work in ("encode", "low rank", "whole"):
        model = kind.from_pretrained(folder, dtype=torch.float32).to(DEVICE)
        ids = torch.randint(5, model.config.vocab_size, (int(texts), int(tokens)), device=DEVICE)
        if work == "low rank":
            names = ["q_proj", "v_proj"] if causal else ["query", "value"]
            model = get_peft_model(model, LoraConfig(r=int(rank), lora_alpha=int(rank), target_modules=names))
        autocast = torch.autocast(DEVICE, dtype=kinds[dtype], enabled=dtype != "float32")
        if work == "encode":
            body = model.model if causal else model

            @torch.no_grad()
            def turn(body=body, ids=ids, autocast=autocast):
                with autocast:
                    return body(input_ids=ids).last_hidden_state.mean(dim=1)

        else:
            optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=5e-5)
            model.train()

            def turn(model=model, optimizer=optimizer, ids=ids, autocast=autocast):
                with autocast:
                    loss = model(input_ids=ids, labels=ids).loss if causal else pairs_loss(model, ids)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()

        found[work] = clock(turn, float(seconds))
    versions = {name: metadata.version(name) for name in ("torch", "transformers", "peft")}
    print(json.dumps({"seconds": found, "versions": versions}))


if __name__ == "__main__":
    main(*sys.argv[1:])
