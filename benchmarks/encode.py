"""Encoding the titles of a catalogue with MiniLM, beside sentence-transformers on the same machine in the same run.

Run:    python benchmarks/encode.py --peer-python PATH     (about 5 minutes on two CPU cores)
Smoke:  python benchmarks/encode.py --smoke
Prints: one table. Texts are titles, years and genres of MovieLens-1M; tokenising counts. The two take turns, so
        what else the machine does slows both; seconds are the median and the fastest of all turns but the first,
        which compiles and is shown apart. PATH is the interpreter of an environment with the peer:
        ``python -m venv peers; peers/bin/pip install sentence-transformers``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np
import tyro
from _measure import Options, number, ratio, show

from recjax import data, language


@dataclasses.dataclass(frozen=True)
class Config(Options):
    texts: int = 1024
    batch: int = 32
    repeats: int = 5
    peer_python: str | None = None
    """Interpreter of an environment with sentence-transformers; without it the peer is left out."""


def sentences(config: Config) -> list[str]:
    """``Toy Story (1995). Animation, Children's, Comedy``."""
    if config.smoke:
        return [f"the toy story number {i} " * (1 + i % 4) for i in range(config.texts)]
    return data.item_texts(data.load("ml-1m"))[: config.texts]


def tiny(texts: list[str]) -> language.LanguageModel:
    tokenizer = language.train_wordpiece(texts, vocab_size=100, max_length=32)
    shape = {"dim": 8, "num_layers": 1, "num_heads": 2, "feed_forward": 8}
    return language.initialize(
        language.LanguageConfig("bert", 100, max_length=32, **shape), jax.random.key(0), tokenizer
    )


@contextlib.contextmanager
def peer(config: Config, path: Path, texts: list[str], threads: int) -> Iterator[Callable[[], float]]:
    """``() -> seconds`` of one turn of sentence-transformers."""
    with tempfile.TemporaryDirectory() as folder:
        lines = Path(folder, "texts.json")
        lines.write_text(json.dumps(texts), encoding="utf-8")
        script = Path(__file__).with_name("_sentence_transformers_encode.py")
        numbers = [str(config.batch), str(config.repeats), str(threads)]
        command = [str(config.peer_python), str(script), str(path), str(lines), *numbers]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
            assert running.stdin is not None
            assert running.stdout is not None
            stdin, stdout = running.stdin, running.stdout

            def turn() -> float:
                stdin.write("\n")
                stdin.flush()
                found = json.loads(stdout.readline())
                if not found["turn"]:
                    print(", ".join(f"{name} {version}" for name, version in found["versions"].items()))
                return found["seconds"]

            yield turn


def main(config: Config) -> None:
    if config.smoke:
        config = dataclasses.replace(config, texts=40, batch=8, repeats=1, peer_python=None)
    texts = sentences(config)
    with contextlib.ExitStack() as stack:
        if config.smoke:
            model = tiny(texts)
        else:
            path = stack.enter_context(language.pretrained.make("minilm"))
            model = language.load(path)
        contenders: dict[str, Callable[[], float]] = {
            "recjax, lengths sorted into few shapes": lambda: _seconds(model, texts, config.batch),
        }
        if config.peer_python:
            # Threads that wait for each other lose most where other programs run, so one alone has a row too.
            for threads in dict.fromkeys((os.cpu_count() or 1, 1)):
                name = f"sentence-transformers, {threads} thread{'s' * (threads > 1)}"
                contenders[name] = stack.enter_context(peer(config, path, texts, threads))
        times: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(config.repeats + 1):
            for name, turn in contenders.items():
                times[name].append(turn())
    ours = np.median(next(iter(times.values()))[1:])
    rows = [
        [
            name, number(np.median(taken[1:]), "s", 2), number(min(taken[1:]), "s", 2),
            number(len(texts) / np.median(taken[1:]), "texts/s"), ratio(np.median(taken[1:]) / ours, 2),
            number(taken[0], "s", 1),
        ]
        for name, taken in times.items()
    ]  # fmt: skip
    lengths = [len(ids) for ids in model.tokenizer(texts)] if model.tokenizer else [0]
    size = f"{np.median(lengths):.0f} tokens, {max(lengths)} at most"
    show(
        config,
        "encode",
        f"{len(texts):,} texts of {size}; batch {config.batch}, float32",
        ["", "s, median", "s, fastest", "texts/s", "ratio", "s, first turn"],
        rows,
        ["jax", "flax", "tokenizers"],
    )


def _seconds(model: language.LanguageModel, texts: list[str], batch: int) -> float:
    start = time.perf_counter()
    language.encode(model, texts, batch_size=batch)
    return time.perf_counter() - start


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
