"""Language models that go on learning, on the titles and genres of a catalogue: frozen, by low rank, and whole.

    python experiments/language/text_pretraining.py                        (3 seeds, hours on two CPU cores)
    python experiments/language/text_pretraining.py --models minilm --objectives masked
    python experiments/language/text_pretraining.py --smoke                (tiny random models, seconds, no weights)

Prints one table, mean and half the range over seeds. Held-out losses are of texts of a tenth of the items, in nats: of
masked tokens ("masked", where a fresh head is trained in every way), of the next token ("causal"), and InfoNCE of a
second view, or of the genres, among the texts of a batch of 32 ("simcse", "pairs"). "from scratch" is the same
architecture with random weights. What a step costs is for ``benchmarks/language_steps.py`` to say.

Every training writes one JSON file below ``--out``, and its checkpoints below ``--work``; a study that was killed and
is started again goes on from there.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _results import Result, config_hash
from runner import LongOptions, Study, mean_and_spread, run, stated

from recjax import data, fit, language

OBJECTIVES = {"minilm": ("masked", "simcse", "pairs"), "smollm2-135m": ("causal",)}
OF_THE_GRID = ("models", "objectives", "ways")
"""Options that say what is compared."""
COMPARED = 32
"""Texts among which a partner is found, in held-out losses."""


@dataclasses.dataclass(frozen=True)
class Config(LongOptions):
    models: tuple[str, ...] = ("minilm", "smollm2-135m")
    """Names in ``recjax.language.pretrained``."""
    objectives: tuple[str, ...] = ("masked", "simcse", "pairs", "causal")
    """Those of them that a model can learn by."""
    ways: tuple[str, ...] = ("frozen", "low-rank", "whole", "from scratch")
    """What of the model is trained; "frozen" trains a fresh head, where there is one, alone."""
    epochs: int = 3
    """Over the texts of nine tenths of the items."""
    batch_size: int = 32
    """Texts of a step."""
    learning_rate: float = 5e-5
    """Peak when the whole model is trained; ten times as much for low rank, heads and random weights."""
    rank: int = 8
    """Of the changes of the queries and values of each layer."""
    layer_decay: float = 0.95
    """Of the learning rate from each layer to the one below."""
    data: str = "ml-1m"
    """Named data set with titles and genres."""
    items: int = 1000
    """How many of its items, chosen at random, all of them at most."""


def catalogue(config: Config) -> list[tuple[str, str]]:
    """Title and genres of each item."""
    if config.smoke:
        return [(f"{one} {other}", other * 3) for one in "abcdefgh" for other in ("toy", "man", "war", "sea", "sky")]
    dataset = data.load(config.data)
    genres = [
        ", ".join(genre for genre, has in zip(dataset.genres, row, strict=True) if has) for row in dataset.multi_hot
    ]
    return list(zip(dataset.titles, genres, strict=True))


def load(config: Config, name: str, way: str, seed: int, texts: Sequence[str]) -> language.LanguageModel:
    if config.smoke:
        tokenizer = language.train_wordpiece(texts, vocab_size=60, max_length=16)
        shape = {"dim": 8, "num_layers": 2, "num_heads": 2, "feed_forward": 16, "vocab_size": 60, "max_length": 16}
        family, dropout = ("bert", 0.1) if name == "minilm" else ("llama", 0.0)
        return language.initialize(
            language.LanguageConfig(family, dropout=dropout, **shape), jax.random.key(seed), tokenizer
        )
    model = language.with_head(language.load(name), jax.random.key(seed))
    if way == "from scratch":
        return language.initialize(model.config, jax.random.key(seed), model.tokenizer)
    return model


def adaptation(config: Config, objective: str, way: str) -> fit.Adaptation | None:
    """None trains everything."""
    head = fit.only(lambda path: "head" in path)
    low_rank = fit.lora(
        config.rank, lambda path: path[-2] in ("query", "value") and path[-1] == "kernel", stacked=language.in_layers
    )
    if way in ("whole", "from scratch"):
        return None
    if objective == "masked":
        return head if way == "frozen" else fit.chain(low_rank, head)
    return low_rank


def held_out(model: language.LanguageModel, training: language.TextConfig, texts: Sequence[Any], seed: int) -> float:
    if training.objective in ("masked", "causal"):
        return language.evaluate_text(model, texts, training.objective, key=jax.random.key(seed)).loss
    sides = list(zip(*texts, strict=True)) if training.objective == "pairs" else [texts]
    tokens = [model.tokenizer(list(one)) for one in sides]
    longest = max(len(ids) for side in tokens for ids in side)
    mask = np.array([[np.arange(longest) < len(ids) for ids in side] for side in tokens])
    ids = np.array([[np.pad(ids, (0, longest - len(ids))) for ids in side] for side in tokens])
    loss = jax.jit(language.text_loss(model, training))
    found = []
    for start in range(0, len(texts) - COMPARED + 1, COMPARED):
        part = slice(start, start + COMPARED)
        key = jax.random.fold_in(jax.random.key(seed), start)
        found.append(loss(model.params, jnp.asarray(ids[:, part]), jnp.asarray(mask[:, part]), key).mean())
    return float(np.mean(found))


def result(condition: dict[str, Any], seed: int, config: Config) -> dict[str, Any]:
    """What one training found, ready for JSON."""
    model_name, objective, way = condition["model"], condition["objective"], condition["way"]
    items = catalogue(config)
    items = [items[i] for i in np.random.default_rng(seed).permutation(len(items))[: config.items]]
    joined = [f"{title}. {genres}" for title, genres in items]
    model = load(config, model_name, way, seed, joined)
    texts = items if objective == "pairs" else joined
    cut = max(COMPARED, len(texts) // 10)
    train, test = texts[cut:], texts[:cut]
    training = language.TextConfig(
        objective,
        epochs=config.epochs,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate * (1 if way == "whole" else 10),
        # The low-rank changes are of single matrices, and a head has no layers.
        layer_decay=config.layer_decay if way == "whole" else 1.0,
        num_buckets=1 if config.smoke else 4,
    )
    found = {"params": model.num_params, "before": held_out(model, training, test, seed)}
    if way == "frozen" and objective != "masked":
        return found | {"trained": 0, "after": found["before"]}
    name = f"{config_hash(condition, stated(config, *OF_THE_GRID))}-{seed}"
    with fit.Progress(enabled=not config.smoke) as progress:
        fitted = language.fit_text(
            model, train, training, key=jax.random.key(seed), adaptation=adaptation(config, objective, way),
            hooks=fit.Hooks(progress=progress, checkpoints=fit.Checkpoints(config.work / name, keep=1)),
        )  # fmt: skip
    return found | {"trained": fitted.num_trained, "after": held_out(fitted.model, training, test, seed)}


def show(study: Study, results: list[Result]) -> None:
    """One row a model, objective and way, seeds together."""
    rows: dict[tuple[str, ...], list[Result]] = {}
    for each in results:
        rows.setdefault(tuple(each.condition.values()), []).append(each)
    lines = []
    for names, of_row in rows.items():
        found = [each.found for each in of_row]
        first = found[0]
        cells = [
            *names, f"{first['trained']:,}", f"{first['trained'] / first['params']:.2%}",
            *(mean_and_spread([each[when] for each in found]) for when in ("before", "after")),
            mean_and_spread([each["before"] - each["after"] for each in found]),
        ]  # fmt: skip
        lines.append((cells, of_row))
    headings = ["model", "objective", "what is trained", "parameters", "share", "before", "after", "less"]
    study.show("Further training on the texts of a catalogue: held-out nats", headings, lines, left=3)


def main(study: Study) -> None:
    config: Any = study.config
    wanted = [
        (name, objective, way)
        for name in config.models
        for objective in OBJECTIVES[name]
        if objective in config.objectives
        for way in config.ways
    ]
    if config.smoke:
        # Every model, objective and way once or more, in the time of few compilations.
        wanted = [("minilm", "masked", "low-rank"), ("minilm", "simcse", "frozen"), ("minilm", "pairs", "low-rank"),
                  ("smollm2-135m", "causal", "whole")]  # fmt: skip
    conditions = [dict(zip(("model", "objective", "way"), each, strict=True)) for each in wanted]
    show(study, study.grid(conditions, lambda condition, seed: result(condition, seed, config), OF_THE_GRID))


if __name__ == "__main__":
    run(__file__, __doc__, Config, main, epochs=2, batch_size=8, learning_rate=1e-3, rank=1)
