"""How much of a language model to train along with a recommender: nothing of it, low-rank changes, or whole layers.

    python experiments/language/fine_tuning.py                # MovieLens-100K, 5 seeds
    python experiments/language/fine_tuning.py --smoke        # a generated log, tiny language model, seconds

A share of the items is cold: all their events are taken out of the training log. First a SASRec learns to recommend
from the vectors that a language model makes of titles and genres, as they are. From there it goes on in three ways,
by the same batches, loss, number of epochs and learning rate of the recommender: the language model stays frozen, and
so do its vectors; its upper layers get low-rank changes; or they are trained whole. What the lower layers make of the
texts is computed once.
Beside these stands the same in the same steps with random weights in the place of the pretrained ones. Nothing is
chosen by the test items: the last event of each user, a cold one ranked among the cold items and a warm one among the
others.

Prints one table: what was trained of the language model, the seconds of an epoch after compilation, metrics as mean and
half the range over seeds, and the paired difference to the whole layers with its interval over seeds. Every seed writes
one JSON file below ``--out``, and its trainings their checkpoints below ``--work``; a study that was killed and is
started again goes on from there.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _new_items import (
    METRICS,
    PARTS,
    TEXTS_ALONE,
    Language,
    Problem,
    RankingConfig,
    each_seed,
    learn,
    named,
    problem,
    rank,
    sasrec,
)
from _results import Result
from runner import Study, mean_and_spread, paired_text, run

from recjax import data, fit, language, nn
from recjax.data import Dataset
from recjax.models.sequence import Start
from recjax.types import Feature, Items, PyTree

WAYS = ("frozen", "low rank", "whole")
BEFORE = "before"
"""The row of what all ways go on from."""
SCRATCH = "random weights, "
"""What the names of rows without pretraining begin with."""
STARTS = {"": WAYS, SCRATCH: ("whole",)}


@dataclasses.dataclass(frozen=True)
class Config(RankingConfig):
    data: str = "ml-100k"
    """Named data set whose items have titles and genres."""
    layers: int = 1
    """Upper layers of the language model, which are trained along."""
    rank: int = 8
    """Of the changes of their matrices."""
    max_tokens: int = 16
    """Tokens of a text at most."""
    dropout: float = 0.2
    """Between layers."""
    epochs: int = 40
    """Of the training before, from vectors that stay as they are."""
    further: int = 5
    """Epochs of each of the ways from there."""
    batch_size: int = 512
    """Windows of a batch; the more, the fewer times each item is encoded."""
    warmup_steps: int = 10
    """Over which rates rise."""
    whole_rate: float = 0.05
    """Times the learning rate, is that of upper layers which are trained whole."""


def in_language(path: tuple[str, ...]) -> bool:
    return "language" in path


def low_rank(config: Config) -> fit.Adaptation:
    """The recommender is trained, and of the language model low-rank changes of its matrices."""
    matrices = fit.lora(
        config.rank, lambda path: in_language(path) and path[-1] == "kernel", stacked=language.in_layers
    )
    return fit.chain(matrices, fit.only(lambda path: not in_language(path)))


def result(dataset: Dataset, seed: int, get_model: Language, config: Config) -> dict[str, Any]:
    """What one draw of cold items found, ready for JSON."""
    of, model = problem(dataset, np.random.default_rng(seed), config.new, config.history_length), get_model()
    rows: dict[str, Any] = {}
    for start, ways in ({"": WAYS[1:]} if config.smoke else STARTS).items():
        if start == SCRATCH:
            model = language.initialize(model.config, jax.random.key(seed), model.tokenizer)
        found = compared(of, model, ways, start, seed, config)
        rows |= {start + way: row for way, row in found.items()}
    return {"language": model.num_params, "rows": rows}


def compared(
    of: Problem, model: language.LanguageModel, ways: tuple[str, ...], start_name: str, seed: int, config: Config
) -> dict[str, Any]:
    """A row before, and one for each way from there."""
    first = model.config.num_layers - config.layers
    items = language.with_tokens(
        of.items, model, data.item_texts(of.dataset), first=first, max_tokens=config.max_tokens
    )
    of_texts = functools.partial(sasrec, config=config, **TEXTS_ALONE)
    tower = language.text_tower(model, first=first)
    trained_along = of_texts(of.num_known, encoders={"text": tower})
    shown = jax.tree.map(lambda leaf: leaf[:1], of.test.observation)
    shown = dataclasses.replace(shown, history=jnp.minimum(shown.history, of.num_known - 1))
    start = jax.jit(trained_along.init)(jax.random.key(seed), shown, of.known(items))
    start = language.with_language(start, model, first=first)

    def measure(params: PyTree, items: Items, **options: Any) -> dict[str, Any]:
        module = of_texts(of.dataset.num_items, **options)
        return {part: named(rank(of, module, params, items, part)) for part in PARTS}

    as_they_are = of.items.with_features(text=Feature(made_by(tower.make(), start, items), "vectors"))
    fixed = of_texts(of.num_known)
    learned = learn(fixed, of.train, of.known(as_they_are), start_name + BEFORE, seed, config).params
    rows = {BEFORE: measure(learned, as_they_are)}
    start = with_encoder(learned, start)

    def rates(path: tuple[str, ...]) -> float:
        return config.whole_rate if in_language(path) else 1.0

    fixed_start = (fixed, as_they_are, learned)
    along_start = (trained_along, items, start)
    how: dict[str, tuple[tuple[nn.Recommendation, Items, PyTree], dict[str, Any]]] = {
        "frozen": (fixed_start, {}),
        "low rank": (along_start, {"adaptation": low_rank(config)}),
        "whole": (along_start, {"rates": rates}),
    }
    # One part of a batch, or its items would be encoded for each of the parts.
    further = {
        "epochs": config.further, "loss": "sampled_softmax", "sampler": "in_batch", "num_buckets": 1, "accumulate": 1,
    }  # fmt: skip
    for way in ways:
        (module, known, params), options = how[way]
        ends: list[float] = []
        fitted = learn(
            module, of.train, of.known(known), start_name + way, seed, config, further, start=Start(params, **options),
            callback=lambda epoch, params: ends.append(time.perf_counter()),  # noqa: B023
        )  # fmt: skip
        rows[way] = measure(fitted.params, known, encoders=module.item.encoders)
        rows[way]["seconds_per_epoch"] = float(np.median(np.diff(ends))) if len(ends) > 1 else None
        adapted = options.get("adaptation")
        trained = params if adapted is None else jax.eval_shape(adapted.init, jax.random.key(0), params)
        rows[way]["trained"] = num_numbers(trained) - num_numbers(learned)
    return rows


def num_numbers(params: PyTree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def made_by(tower: Any, params: PyTree, items: Items) -> jax.Array:
    """What the tower makes of all items, ``[N, H]``, in blocks."""
    variables = {"params": params["params"]["item"]["encoder"]}
    return jax.lax.map(
        lambda values: tower.apply(variables, jax.tree.map(lambda leaf: leaf[None], values))[0],
        items.features["text"].values,
        batch_size=64,
    )


def with_encoder(learned: PyTree, start: PyTree) -> PyTree:
    """What was learned of fixed vectors, with the language model in their place."""
    item = learned["params"]["item"] | {"encoder": start["params"]["item"]["encoder"]}
    return {"params": learned["params"] | {"item": item}}


def show(study: Study, results: list[Result]) -> None:
    """One row a way, seeds together; cold items first."""
    first = results[0].found
    lines: list[Any] = []
    for part in PARTS:
        for name in first["rows"]:
            found = [each.found["rows"][name] for each in results]
            seconds = [row["seconds_per_epoch"] for row in found if row.get("seconds_per_epoch") is not None]
            trained = found[0].get("trained", 0)
            own, whole = ([each.found["rows"][way][part]["NDCG@10"] for each in results] for way in (name, WAYS[-1]))
            cells = [
                part, name, f"{trained:,} ({trained / first['language']:.2%})" if trained else "–",
                f"{np.median(seconds):.1f}" if seconds else "–",
                *(mean_and_spread([row[part][metric] for row in found]) for metric in METRICS),
                "" if name == WAYS[-1] else paired_text(own, whole),
            ]  # fmt: skip
            lines.append((cells, results))
        lines.append(None)
    title = f"{study.config.data}: a language model of {first['language']:,} numbers"
    headings = ["items", "language model", "trained of it", "s an epoch", *METRICS, "NDCG@10 less whole"]
    study.show(title, headings, lines, left=2)


def main(study: Study) -> None:
    show(study, each_seed(study, result))


if __name__ == "__main__":
    run(
        __file__, __doc__, Config, main,
        dim=8, history_length=8, epochs=1, further=2, rank=2, batch_size=16, warmup_steps=0,
    )  # fmt: skip
