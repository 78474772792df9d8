"""Items that no training has seen: what their texts are worth, beside controls that have none.

    python experiments/language/cold_start.py                 # MovieLens-1M, 5 seeds; about 15 min a seed on 2 cores
    python experiments/language/cold_start.py --smoke         # a generated log, tiny language model, seconds

A share of the items is cold: all their events are taken out of the training log. Every network is trained on the
catalogue of the others and is then given the whole catalogue (``nn.with_new_items``); cold items are what they are
described as. Two questions about the last item of each user (leave one out, items that the user had left out):

* cold: where it is a cold item, where does it stand among the cold ones?
* warm: where it is not, where does it stand among the others?

Rows: ids alone; then ids that are added to a description, as residuals, and dropped now and then so that descriptions
learn to stand alone. A description is random vectors, which tells what is due to the network and what to the texts;
genres and years; vectors of titles, years and genres from a pretrained language model, whitened; or all of these. The
last two rows have no ids, or weigh ids and description by a gate. The number of epochs is fixed: nothing is chosen
by the test items of a draw. The recipe was chosen once, on another draw of cold items (seed 100), which asks for the
same last events of users: another share of them was cold.

Prints one table, mean and half the range over seeds, and for the warm items the difference to the first row with its
paired interval. Every seed writes one JSON file below ``--out``, and its trainings their checkpoints below
``--work``; a study that was killed and is started again goes on from there.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _new_items import METRICS, PARTS, Language, Problem, RankingConfig, each_seed, learn, named, problem, rank, sasrec
from _results import Result
from runner import Study, mean_and_spread, paired_text, run

from recjax import data, language, nn
from recjax.data import Dataset
from recjax.eval import bootstrap_interval
from recjax.types import Feature, Items


@dataclasses.dataclass(frozen=True)
class Row:
    """What a network knows of items.

    Attributes:
      vectors: "texts", "random", or none.
      genres: whether it is told genres and five years to which an item belongs.
      options: of :class:`recjax.nn.Recommendation`.
    """

    vectors: str = ""
    genres: bool = False
    options: dict[str, Any] = dataclasses.field(default_factory=dict)


RESIDUAL = {"fusion": "residual", "id_dropout": 0.5}
ROWS: dict[str, Row] = {
    "ids": Row(),
    "random vectors + ids": Row("random", False, RESIDUAL),
    "genres, years + ids": Row("", True, RESIDUAL),
    "texts + ids": Row("texts", False, RESIDUAL),
    "texts, genres, years + ids": Row("texts", True, RESIDUAL),
    "texts, genres, years": Row("texts", True, {"use_id": False}),
    "texts, genres, years and ids, gated": Row("texts", True, RESIDUAL | {"fusion": "gate"}),
}


@dataclasses.dataclass(frozen=True)
class Config(RankingConfig):
    rows: tuple[str, ...] = tuple(ROWS)
    """What to train; the others are compared with the first."""
    text_dim: int = 64
    """Directions of the vectors of texts that are kept, those of the largest variance."""
    adaptor: str = "linear"
    """What brings vectors of texts to the width, a name in ``nn.adaptors``."""


def described(of: Problem, row: Row, seed: int, get_model: Language, config: Config) -> Items:
    """All items with what a row knows of them."""
    items = of.items
    if row.genres:
        items = items.with_features(genres=Feature(jnp.asarray(genres_and_years(of.dataset)), "multi_hot"))
    if not row.vectors:
        return items
    vectors = language.encode(get_model(), data.item_texts(of.dataset), cache=config.work / "vectors")
    if row.vectors == "random":
        vectors = np.random.default_rng(seed).normal(size=vectors.shape).astype(np.float32)
    white = of.whitened(vectors, config.text_dim)
    return items.with_features(vectors=Feature(jnp.asarray(white(vectors)), "vectors"))


def genres_and_years(dataset: Dataset) -> np.ndarray:
    """``f32[N, G + Y]``: genres, and which five years an item is of, where its year is known."""
    if dataset.numeric is None or "year" not in dataset.numeric_names:
        return dataset.multi_hot
    year = dataset.numeric[:, dataset.numeric_names.index("year")]
    known = np.isfinite(year)
    span = np.where(known, year, np.nanmin(year)) // 5
    span = (span - span.min()).astype(int)
    return np.concatenate([dataset.multi_hot, np.eye(span.max() + 1, dtype=np.float32)[span] * known[:, None]], axis=1)


def result(dataset: Dataset, seed: int, get_model: Language, config: Config) -> dict[str, Any]:
    """What one draw of cold items found, ready for JSON."""
    of = problem(dataset, np.random.default_rng(seed), config.new, config.history_length)
    rows: dict[str, Any] = {}
    alone: dict[str, Any] = {}
    for name in config.rows:
        items = described(of, ROWS[name], seed, get_model, config)
        warm, module = (
            sasrec(count, config, adaptor=config.adaptor, **ROWS[name].options)
            for count in (of.num_known, dataset.num_items)
        )
        learned = learn(warm, of.train, of.known(items), name, seed, config)
        params = nn.with_new_items(learned.params, dataset.num_items)
        found = {part: rank(of, module, params, items, part) for part in PARTS}
        rows[name] = {part: named(evaluation) for part, evaluation in found.items()}
        alone = alone or found["warm"].per_user
        for short, key in METRICS.items():
            interval = bootstrap_interval(found["warm"].per_user[key] - alone[key])
            rows[name]["warm"][f"{short} less first"] = [interval.mean, interval.low, interval.high]
    users = {part: evaluation.num_users for part, evaluation in found.items()}
    chance = min(1.0, 10 / (dataset.num_items - of.num_known))
    return {"users": users, "chance": chance, "protocol": str(found["cold"].protocol), "rows": rows}


def show(study: Study, results: list[Result]) -> None:
    """One row a kind of items, seeds together."""
    first = results[0].found
    reference = next(iter(first["rows"]))
    lines = []
    for name in first["rows"]:
        found = [each.found["rows"][name] for each in results]
        cells = [mean_and_spread([row[part][metric] for row in found]) for part in PARTS for metric in METRICS]
        less = "" if name == reference else difference([row["warm"]["NDCG@10 less first"] for row in found])
        lines.append(([name, *cells, less], results))
    users = first["users"]
    study.show(
        f"{study.config.data}: {users['cold']:,} users of cold items, {users['warm']:,} of the others",
        [
            "known of an item",
            *(f"{part} {metric}" for part in PARTS for metric in METRICS),
            f"warm NDCG@10 less {reference}",
        ],
        lines,
        caption=f"{first['protocol']}; HR@10 of cold items by chance: {first['chance']:.4f}",
    )


def difference(found: list[list[float]]) -> str:
    """The mean over seeds with its paired interval; of one seed, that of the bootstrap over users."""
    if len(found) == 1:
        mean, low, high = found[0]
        return f"{mean:+.4f} ({low:+.4f} to {high:+.4f})"
    return paired_text([each[0] for each in found], [0.0] * len(found))


def main(study: Study) -> None:
    unknown = set(study.config.rows) - set(ROWS)
    if unknown:
        raise SystemExit(f"There are no rows {sorted(unknown)}; choose of {', '.join(ROWS)}.")
    show(study, each_seed(study, result))


if __name__ == "__main__":
    run(
        __file__, __doc__, Config, main,
        rows=("ids", "texts + ids"), dim=8, text_dim=4, warmup_steps=0, history_length=8, epochs=1, batch_size=32,
    )  # fmt: skip
