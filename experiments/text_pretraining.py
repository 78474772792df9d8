"""Language models that go on learning, on the titles and genres of a catalogue: frozen, by low rank, and whole.

Run:    python experiments/text_pretraining.py                        (an hour or more on two CPU cores)
        python experiments/text_pretraining.py --models minilm --objectives masked --ways low-rank
Smoke:  python experiments/text_pretraining.py --smoke                 (tiny random models, seconds, no weights)
Prints: one table. Held-out losses are of texts of a tenth of the items, in nats: of a gap ("masked", where a fresh
        head is trained in every way), of the next token ("causal"), and of telling one's second look, or one's
        genres, from the texts of a batch of 32 ("simcse", "pairs"). Seconds are of one step after compilation; memory
        is what a step needs beside its arguments, as the compiler says.
Rows:   are written to ``text_pretraining.json`` as they are done; another run does what is missing. With
        ``--checkpoints FOLDER`` a row that was cut short goes on at its last epoch.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from recjax import data, fit
from recjax.models import text

OBJECTIVES = {"minilm": ("masked", "simcse", "pairs"), "smollm2-135m": ("causal",)}
COMPARED = 32
"""Texts among which a partner is told, in held-out losses."""


@dataclasses.dataclass(frozen=True)
class Config:
    models: tuple[str, ...] = ("minilm", "smollm2-135m")
    """Names in ``recjax.models.text.pretrained``."""
    objectives: tuple[str, ...] = ("masked", "simcse", "pairs", "causal")
    """Those of them that a model can learn by."""
    ways: tuple[str, ...] = ("frozen", "low-rank", "whole")
    """What of the model is trained; "frozen" trains a fresh head, where there is one, alone."""
    epochs: int = 3
    """Over the texts of nine tenths of the items."""
    batch_size: int = 32
    """Texts of a step."""
    learning_rate: float = 5e-5
    """Peak when the whole model is trained; ten times as much for low rank and heads."""
    rank: int = 8
    """Of the changes of the queries and values of each layer."""
    layer_decay: float = 0.95
    """Of the learning rate from each layer to the one below."""
    data: str = "ml-1m"
    """Named data set with titles and genres."""
    items: int | None = None
    """How many of its items, chosen at random; all of them by default."""
    seed: int = 0
    """Of everything."""
    checkpoints: Path | None = None
    """Where epochs are kept, to go on from."""
    out: Path = Path("experiments/results/text_pretraining")
    """Where rows are written."""
    smoke: bool = False
    """Tiny random models on a few made-up texts; nothing is read or written."""


def catalogue(config: Config) -> list[tuple[str, str]]:
    """Title and genres of each item."""
    if config.smoke:
        return [(f"{one} {other}", other * 3) for one in "abcdefgh" for other in ("toy", "man", "war", "sea", "sky")]
    dataset = data.load(config.data)
    genres = [
        ", ".join(genre for genre, has in zip(dataset.genres, row, strict=True) if has) for row in dataset.multi_hot
    ]
    return list(zip(dataset.titles, genres, strict=True))


def load(config: Config, name: str, texts: Sequence[str]) -> text.LanguageModel:
    if not config.smoke:
        return text.with_head(text.load(name), jax.random.key(config.seed))
    tokenizer = text.train_wordpiece(texts, vocab_size=60, max_length=16)
    shape = {"dim": 8, "num_layers": 2, "num_heads": 2, "feed_forward": 16, "vocab_size": 60, "max_length": 16}
    family, dropout = ("bert", 0.1) if name == "minilm" else ("llama", 0.0)
    return text.initialize(text.LanguageConfig(family, dropout=dropout, **shape), jax.random.key(0), tokenizer)


def adaptation(config: Config, objective: str, way: str) -> fit.Adaptation | None:
    """None trains everything."""
    head = fit.only(lambda path: "head" in path)
    low_rank = fit.lora(
        config.rank, lambda path: path[-2] in ("query", "value") and path[-1] == "kernel", stacked=text.in_layers
    )
    if way == "whole":
        return None
    if objective == "masked":
        return head if way == "frozen" else fit.chain(low_rank, head)
    return low_rank


def held_out(config: Config, model: text.LanguageModel, training: text.TextConfig, texts: Sequence[Any]) -> float:
    if training.objective in ("masked", "causal"):
        return text.evaluate_text(model, texts, training.objective, key=jax.random.key(config.seed))
    sides = list(zip(*texts, strict=True)) if training.objective == "pairs" else [texts]
    tokens = [model.tokenizer(list(one)) for one in sides]
    longest = max(len(ids) for side in tokens for ids in side)
    mask = np.array([[np.arange(longest) < len(ids) for ids in side] for side in tokens])
    ids = np.array([[np.pad(ids, (0, longest - len(ids))) for ids in side] for side in tokens])
    loss = jax.jit(text.text_loss(model, training))
    found = []
    for start in range(0, len(texts) - COMPARED + 1, COMPARED):
        part = slice(start, start + COMPARED)
        key = jax.random.fold_in(jax.random.key(config.seed), start)
        found.append(loss(model.params, jnp.asarray(ids[:, part]), jnp.asarray(mask[:, part]), key).mean())
    return float(np.mean(found))


def step_bytes(model: text.LanguageModel, training: text.TextConfig, adapted: fit.Adaptation | None) -> int:
    """What one step on texts of 32 tokens needs beside its arguments, by shapes alone."""
    loss = text.text_loss(model, training)
    optimizer = fit.adamw(training.learning_rate)

    def loss_fn(variables: Any, batch: Any, key: Any) -> Any:
        ids, mask, base = batch
        params = variables if adapted is None else adapted.expand(base, variables)
        return loss(params, ids[:, :, 0], mask[:, :, 0], key).mean(), {}

    update = fit.gradient_step(loss_fn, optimizer)
    fields = 2 if training.objective == "pairs" else 1
    shape = (fields, training.batch_size, 1, min(32, model.config.max_length))
    ids, mask = jax.ShapeDtypeStruct(shape, jnp.int32), jax.ShapeDtypeStruct(shape, bool)
    key = jax.random.key(0)
    variables = model.params if adapted is None else jax.eval_shape(adapted.init, key, model.params)
    state = jax.eval_shape(lambda variables: fit.TrainState.create(variables, optimizer), variables)
    base = None if adapted is None else jax.eval_shape(lambda: model.params)
    compiled = jax.jit(update, donate_argnums=0).lower(state, (ids, mask, base), key).compile()
    return compiled.memory_analysis().temp_size_in_bytes


def row(config: Config, name: str, objective: str, way: str, progress: fit.Progress) -> dict[str, Any]:
    items = catalogue(config)
    items = [items[i] for i in np.random.default_rng(config.seed).permutation(len(items))[: config.items]]
    joined = [f"{title}. {genres}" for title, genres in items]
    model = load(config, name, joined)
    texts = items if objective == "pairs" else joined
    cut = max(COMPARED, len(texts) // 10)
    train, test = texts[cut:], texts[:cut]
    training = text.TextConfig(
        objective,
        epochs=config.epochs,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate * (1 if way == "whole" else 10),
        # The low-rank changes are of single matrices, and a head has no layers.
        layer_decay=config.layer_decay if way == "whole" else 1.0,
        lengths=1 if config.smoke else 4,
    )
    said = {"model": name, "objective": objective, "way": way, "params": model.num_params}
    before = held_out(config, model, training, test)
    if way == "frozen" and objective != "masked":
        return said | {"trained": 0, "before": before, "after": before}
    adapted = adaptation(config, objective, way)
    ends: list[float] = []
    fitted = text.fit_text(
        model,
        train,
        training,
        key=jax.random.key(config.seed),
        adaptation=adapted,
        callback=lambda epoch, now: ends.append(time.perf_counter()),
        checkpoints=config.checkpoints and fit.Checkpoints(config.checkpoints / f"{name}-{objective}-{way}", keep=1),
        progress=progress,
    )
    steps = -(-len(train) // training.batch_size) * (len(ends) - 1)
    return said | {
        "trained": fitted.num_trained,
        "before": before,
        "after": held_out(config, fitted.model, training, test),
        "seconds_a_step": (ends[-1] - ends[0]) / steps if steps > 0 else None,
        "temp_bytes": step_bytes(model, training, adapted),
        "losses": [epoch["loss"] for epoch in fitted.history],
    }


def show(rows: list[dict[str, Any]]) -> None:
    table = Table(title="Further training on the texts of a catalogue: held-out nats", title_justify="left")
    for heading in (
        "model",
        "objective",
        "what is trained",
        "parameters",
        "share",
        "before",
        "after",
        "s / step",
        "MB",
    ):
        table.add_column(heading, justify="left" if heading in ("model", "objective", "what is trained") else "right")
    for found in rows:
        seconds, memory = found.get("seconds_a_step"), found.get("temp_bytes")
        table.add_row(
            found["model"], found["objective"], found["way"], f"{found['trained']:,}",
            f"{found['trained'] / found['params']:.2%}", f"{found['before']:.3f}", f"{found['after']:.3f}",
            "" if seconds is None else f"{seconds:.2f}", "" if memory is None else f"{memory / 1e6:,.0f}",
        )  # fmt: skip
    Console(width=120).print(table)


def main(config: Config) -> None:
    if config.smoke:
        config = dataclasses.replace(config, epochs=2, batch_size=8, learning_rate=1e-3, rank=1)
    path = config.out / "text_pretraining.json"
    stated = dataclasses.asdict(config)
    for name in ("models", "objectives", "ways", "checkpoints", "out", "smoke"):
        stated.pop(name)
    rows: list[dict[str, Any]] = []
    if path.exists() and not config.smoke:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["config"] != stated:
            raise SystemExit(f"{path} is of another config, {kept['config']}; give another --out, or move it away.")
        rows = kept["rows"]
    done = {(found["model"], found["objective"], found["way"]) for found in rows}
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
    with fit.Progress(enabled=not config.smoke) as progress:
        for each in wanted:
            if each in done:
                continue
            rows.append(row(config, *each, progress))
            if not config.smoke:
                config.out.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps({"config": stated, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    show(rows)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
