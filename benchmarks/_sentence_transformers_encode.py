"""How fast sentence-transformers encodes texts, for benchmarks/encode.py; runs in an environment of its own."""

from __future__ import annotations

import json
import sys
import time
from importlib import metadata
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer


def main(path: str, texts: str, batch: str, repeats: str, threads: str) -> None:
    torch.set_num_threads(int(threads))
    model = SentenceTransformer(path, device="cpu")
    lines = json.loads(Path(texts).read_text(encoding="utf-8"))
    for turn in range(int(repeats) + 1):
        sys.stdin.readline()  # The contenders take turns.
        start = time.perf_counter()
        model.encode(lines, batch_size=int(batch), show_progress_bar=False)
        taken = time.perf_counter() - start
        versions = {name: metadata.version(name) for name in ("torch", "transformers", "sentence-transformers")}
        print(json.dumps({"turn": turn, "seconds": taken, "versions": versions}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
