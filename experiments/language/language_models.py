"""Pretrained language models beside PyTorch: the same tokens, vectors, logits and continuations?

Run:    python experiments/language/language_models.py                        (about a minute on two CPU cores)
        python experiments/language/language_models.py --peer-python PATH     (about 5 minutes)
Smoke:  python experiments/language/language_models.py --smoke
Prints: one table of differences and the bounds that they must keep; exits with 1 where one is broken.
        MiniLM (BERT) is compared with sentence-transformers, SmolLM2-135M (Llama, from its GGUF file) with
        transformers. The first command reads what they said once, some of the logits only, the second asks them again
        and, with ``--keep``, writes it down. They live in an environment of their own, whose interpreter PATH is:
        ``python -m venv peers; peers/bin/pip install sentence-transformers accelerate gguf``.
        The smoke run has no peer: tiny random models are compared with themselves, text by text,
        without padding, cache, or a way through a file.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _results import Row, machine, write_rows
from runner import RESULTS

from recjax import language

ODD = [
    "", " ", "\n\t", "a", "I", ".", "?!", "2001", "3.14159", "naïve café Ångström", "七人の侍", "千と千尋の神隠し",
    "Броненосец Потёмкин", "Ο Μελισσοκόμος", "دختر لر", "मदर इंडिया", "기생충", "ß İ ﬁ ligature", "🎬🍿 film night",
    "👩‍👩‍👧 family", "e\u0301 combining", "zero\u200bwidth", "soft\u00adhyphen", "tab\tand\nnewline", "ALL CAPS TITLE",
    "a" * 300, "[CLS] [SEP] [MASK]", "<|im_start|>user", "http://example.com/?q=a&b=c", "C++ & C#", "\\ \" ' `",
    "nul\x00inside", "\ufeffbyte order mark", "A very long description of a film. " * 60, "word " * 254, "word " * 255,
]  # fmt: skip
PROMPTS = [
    "The capital of France is", "Films that are like Toy Story (1995):", "def fibonacci(n):", "1, 2, 3, 4,",
    "Once upon a time", "Amélie est un film",
]  # fmt: skip


NUM_TOKENS = 50
"""By which each prompt is continued."""
KEPT_LOGITS = 512
"""Entries of the vocabulary, drawn at random, of which answers keep the logits."""


def descriptions() -> list[str]:
    """A hundred made-up films, from three words to a paragraph."""
    kinds = ("Drama", "Comedy", "Film-Noir", "Sci-Fi", "Children's", "War", "Musical")
    things = ("Lighthouse", "Orchard", "Detective", "Comet", "Violin", "Harbour", "Tiger", "Letter", "Circus", "Winter")
    films = []
    for number in range(100):
        thing, kind = things[number % 10], kinds[number % 7]
        told = f" It tells of a {thing.lower()}, {number} years and a {things[number // 10].lower()}." * (number % 5)
        films.append(f"The {kinds[-number % 7]} {thing} ({1920 + number}). {kind}, {kinds[number * 3 % 7]}.{told}")
    return films


@dataclasses.dataclass(frozen=True)
class Config:
    smoke: bool = False
    """Tiny random models beside themselves; needs neither a network nor a peer."""
    json: Path | None = None
    """File to which rows of name, value, unit and hardware are written."""
    peer_python: str | None = None
    """Interpreter of an environment with sentence-transformers, accelerate and gguf."""
    keep: bool = False
    """Writes what the peer says to ``answers``."""
    answers: Path = RESULTS / "language_models"
    """Where it was written."""


@dataclasses.dataclass(frozen=True)
class Check:
    """A difference and what it may be."""

    what: str
    found: float
    bound: float

    @property
    def holds(self) -> bool:
        return self.found <= self.bound


def unlike(ours: Sequence[Sequence[int]], theirs: Sequence[Sequence[int]]) -> int:
    """How many lists of tokens differ."""
    return sum(list(map(int, one)) != list(map(int, other)) for one, other in zip(ours, theirs, strict=True))


def furthest(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.abs(ours - theirs).max())


@functools.partial(jax.jit, static_argnames="module")
def read(module: language.Transformer, params: Any, ids: Any) -> Any:
    return module.apply(params, module.apply(params, ids), method="logits")


def logits(model: language.LanguageModel, ids: Sequence[int]) -> np.ndarray:
    """``f32[T, V]`` of one text; a decoder does not see what fills it up to a length that others have too."""
    filled = np.zeros((1, -(-len(ids) // 16) * 16), np.int32)
    filled[0, : len(ids)] = ids
    return np.asarray(read(model.module, model.params, jnp.asarray(filled)))[0, : len(ids)]


def peer(config: Config, name: str, **asked: Any) -> dict[str, Any]:
    """What PyTorch says, from its own process, or said."""
    path = config.answers / f"{name}.npz"
    if config.peer_python is None:
        with np.load(path) as found:
            answers = dict(found)
        return answers | named_lists(answers)
    with tempfile.TemporaryDirectory() as folder:
        question, answer = Path(folder, "asked.json"), Path(folder, "found.npz")
        question.write_text(json.dumps(asked), encoding="utf-8")
        script = Path(__file__).parents[1] / "_torch_language_models.py"
        command = [str(config.peer_python), str(script), str(question), str(answer)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"The peer did not run:\n{done.stderr[-2000:]}")
        with np.load(answer) as found:
            answers = dict(found)
    if "logits" in answers:
        vocabulary = answers["logits"].shape[1]
        answers["entries"] = np.sort(np.random.default_rng(0).permutation(vocabulary)[:KEPT_LOGITS])
    if config.keep:
        path.parent.mkdir(parents=True, exist_ok=True)
        some = {"logits": answers["logits"][:, answers["entries"]]} if "logits" in answers else {}
        np.savez_compressed(path, **(answers | some))
    return answers | named_lists(answers)


def named_lists(answers: dict[str, Any]) -> dict[str, Any]:
    """What is no array, and the versions of the peer, which are printed."""
    lists = json.loads(str(answers["lists"]))
    print(", ".join(f"{name} {version}" for name, version in lists["versions"].items()))
    return lists


def as_transformers(model: language.LanguageModel) -> language.LanguageModel:
    """The model with a tokenizer that takes special tokens in texts for what they say, as the peer's does."""
    return dataclasses.replace(model, tokenizer=dataclasses.replace(model.need_tokenizer(), parse_special=True))


def minilm(config: Config) -> Iterator[Check]:
    texts = [*descriptions(), *ODD]
    with language.pretrained.make("minilm") as path:
        model = as_transformers(language.load(path))
        theirs = peer(config, "minilm", path=str(path), texts=texts)
    yield Check(f"MiniLM: texts of {len(texts)} with other tokens", unlike(model.tokenizer(texts), theirs["ids"]), 0)
    vectors = language.encode(model, texts, normalize=True)
    yield Check("MiniLM: normalised vectors", furthest(vectors, theirs["vectors"]), 1e-5)
    length = np.abs(np.linalg.norm(vectors, axis=1) - 1).max()
    yield Check("MiniLM: lengths of normalised vectors", float(length), 1e-5)


def smollm(config: Config) -> Iterator[Check]:
    texts = [*PROMPTS, *(odd for odd in ODD if odd and len(odd) < 100)]
    with language.pretrained.make("smollm2-135m") as path:
        model = as_transformers(language.load(path))
        theirs = peer(config, "smollm2", path=str(path), texts=texts, prompts=PROMPTS, num_tokens=NUM_TOKENS)
    yield Check(f"SmolLM2: texts of {len(texts)} with other tokens", unlike(model.tokenizer(texts), theirs["ids"]), 0)
    prompts = model.tokenizer(PROMPTS)
    ours = np.concatenate([logits(model, ids) for ids in prompts])
    if theirs["logits"].shape != ours.shape:
        ours = ours[:, theirs["entries"]]
    span = f"{theirs['logits'].min():.0f} to {theirs['logits'].max():.0f}"
    what = f"SmolLM2: logits of {len(ours)} tokens, {ours.shape[1]:,} each ({span})"
    yield Check(what, furthest(ours, theirs["logits"]), 1e-3)
    continued = language.generate(model, prompts, NUM_TOKENS)
    name = f"SmolLM2: prompts of {len(PROMPTS)} with another continuation, {NUM_TOKENS} tokens"
    yield Check(name, unlike(continued, theirs["continued"]), 0)


def themselves() -> Iterator[Check]:
    """Tiny models: padded, sorted and through files, beside each text alone."""
    texts = [odd for odd in ODD if len(odd) < 100]
    tokenizer = language.train_wordpiece(texts, vocab_size=300, max_length=48)
    shape = {"dim": 16, "num_layers": 2, "num_heads": 2, "feed_forward": 32, "initializer_range": 0.3}
    for family in ("bert", "gpt2", "llama"):
        config = language.LanguageConfig(family, vocab_size=300, max_length=48, **shape)
        made = language.initialize(config, jax.random.key(0), tokenizer)
        with tempfile.TemporaryDirectory() as folder:
            language.save(made, Path(folder, "model"), shard_bytes=20_000)
            model = language.load(Path(folder, "model"))
        ids = tokenizer(texts)
        yield Check(f"{family}: texts of {len(texts)} with other tokens", unlike(model.tokenizer(texts), ids), 0)
        alone = jax.jit(lambda ids, made=made: made.module.apply(made.params, ids[None])[0].mean(axis=0))
        some = sorted(range(len(texts)), key=lambda i: len(ids[i]))[:: len(texts) // 4]
        vectors = np.stack([alone(ids[i]) for i in some])
        yield Check(f"{family}: vectors", furthest(language.encode(model, texts)[some], vectors), 1e-5)
        if config.traits.causal:
            prompt = [int(token) for token in ids[9][:4]]
            continued = list(prompt)
            for _ in range(5):
                continued.append(int(logits(made, continued)[-1].argmax()))
            found = language.generate(model, [prompt], 5)
            yield Check(f"{family}: prompts of 1 with another continuation", unlike(found, [continued[4:]]), 0)


def main(config: Config) -> None:
    checks = list(themselves() if config.smoke else [*minilm(config), *smollm(config)])
    beside = "each text alone" if config.smoke else "PyTorch"
    table = Table(title=f"Language models beside {beside}: largest differences", title_justify="left")
    for heading in ("", "found", "bound", ""):
        table.add_column(heading, justify="right" if heading else "left")
    for check in checks:
        table.add_row(check.what, f"{check.found:.2g}", f"{check.bound:.2g}", "holds" if check.holds else "BROKEN")
    Console(width=120).print(table)
    write_rows(
        config.json, [Row(f"language_models/{each.what}", each.found, "", machine()["hardware"]) for each in checks]
    )
    if not all(check.holds for check in checks):
        sys.exit(1)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
