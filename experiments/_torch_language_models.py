"""What PyTorch's libraries make of texts, for language/language_models.py; runs in an environment of its own."""

from __future__ import annotations

import json
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import torch


def encoder(path: Path, texts: list[str]) -> dict[str, object]:
    from sentence_transformers import SentenceTransformer
    from transformers import AutoTokenizer

    model = SentenceTransformer(str(path), device="cpu")
    tokenizer = AutoTokenizer.from_pretrained(path)
    ids = [tokenizer(text, truncation=True, max_length=model.max_seq_length)["input_ids"] for text in texts]
    return {"ids": ids, "vectors": model.encode(texts, normalize_embeddings=True)}


def decoder(path: Path, texts: list[str], prompts: list[str], num_tokens: int) -> dict[str, object]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    of = {"gguf_file": path.name}
    tokenizer = AutoTokenizer.from_pretrained(path.parent, **of)
    model = AutoModelForCausalLM.from_pretrained(path.parent, dtype=torch.float32, **of).eval()
    ids = [tokenizer(text)["input_ids"] for text in texts]
    logits, continued = [], []
    with torch.no_grad():
        for prompt in [tokenizer(prompt)["input_ids"] for prompt in prompts]:
            given = torch.tensor([prompt])
            logits.append(model(given).logits[0].numpy())
            whole = model.generate(
                given, attention_mask=torch.ones_like(given), max_new_tokens=num_tokens, min_new_tokens=num_tokens,
                do_sample=False, eos_token_id=None, pad_token_id=0,
            )  # fmt: skip
            continued.append(whole[0, len(prompt) :].tolist())
    return {"ids": ids, "logits": np.concatenate(logits), "continued": continued}


def main(asked: str, out: str) -> None:
    torch.set_num_threads(1)  # Several wait for each other where other programs run; nothing is timed here.
    given = json.loads(Path(asked).read_text(encoding="utf-8"))
    path = Path(given.pop("path"))
    found = decoder(path, **given) if "prompts" in given else encoder(path, **given)
    arrays = {name: value for name, value in found.items() if isinstance(value, np.ndarray)}
    lists = {name: value for name, value in found.items() if name not in arrays}
    packages = ("torch", "transformers", "sentence-transformers")
    lists["versions"] = {name: metadata.version(name) for name in packages}
    np.savez(out, lists=json.dumps(lists), **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
