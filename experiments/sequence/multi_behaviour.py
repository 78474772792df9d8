"""Next purchase and next click from views, carts and purchases, with and without the several behaviours as input.

    python experiments/sequence/multi_behaviour.py --data-dir PATH   # RetailRocket below PATH, 20 min on 2 cores
    python experiments/sequence/multi_behaviour.py --smoke           # generated users, seconds

A SASRec is trained on histories that hold all events with what the user did, all events without it, or events
of the target's behaviour alone; it predicts the next event of the target's behaviour. Three targets, for which
the whole catalogue is ranked:

* the last purchase of each user. What came before it is known, the item in the cart among it, and only what was
  purchased is left out.
* the purchase of an item that the user has never met, which the data set holds out of each user (it has no time;
  the whole log is known). Everything met is left out. A history holds each item once, by the strongest
  behaviour: nine of ten purchases follow a view of the same item, and models that are shown both learn little else.
* the last view of each user. What came before it is known, and only what was viewed is left out.

Prints one table, mean and half the range over seeds. Every training writes one JSON file below ``--out``; a
study that was killed and is started again goes on after the last of them.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _results import Result
from runner import Options, Study, mean_and_spread, run

from recjax import data, nn
from recjax.data import Dataset, Interactions
from recjax.eval import Protocol, evaluate
from recjax.fit import EarlyStopping, Hooks
from recjax.models.collaborative import item_knn, popularity
from recjax.models.sequence import SequenceConfig, fit_sequences
from recjax.types import Behaviour, Observation, PyTree

METRICS = {"HR@10": "hit_rate@10", "NDCG@10": "ndcg@10"}
COUNTS: dict[str, Callable[..., Any]] = {"popularity": popularity, "item kNN": item_knn}
INPUTS = ("all events, with behaviours", "all events, without behaviours", "events of the target's behaviour")


@dataclasses.dataclass(frozen=True)
class Config(Options):
    data_dir: Path | None = None
    """Folder that holds the data set's own folder; RECJAX_DATA by default."""
    history_length: int = 50
    """Events that the model sees."""
    dim: int = 64
    """Width of the vectors."""
    epochs: int = 60
    """At most; training stops after ten without a better NDCG@10 of the validation items."""


@dataclasses.dataclass(frozen=True)
class Task:
    """What is known and what is to be predicted, for validation and for test.

    Attributes:
      behaviour: of the targets.
      known: the logs before the validation and before the test targets.
      held_out: the targets, at most one event of a user.
      new: whether targets are items that the user has never met, or may be such as were met otherwise.
    """

    behaviour: Behaviour
    known: tuple[Interactions, Interactions]
    held_out: tuple[Interactions, Interactions]
    new: bool = False

    def met(self, log: Interactions) -> Interactions:
        """The events of a log whose items are no answers."""
        return log if self.new else only(log, self.behaviour)


def generated() -> Dataset:
    """Users who view, put into the cart and purchase a few items."""
    rng = np.random.default_rng(0)
    n = 40 * 15
    frame = pl.DataFrame({
        "user": np.repeat(np.arange(40), 15),
        "item": rng.integers(0, 30, n),
        "timestamp": np.arange(n),
        "behavior": rng.choice(["view", "cart", "buy"], n, p=[0.6, 0.2, 0.2]),
    })  # fmt: skip
    columns = data.Columns(time="timestamp", behaviour="behavior")
    dataset, _ = data.from_frame(frame, columns, time_format="s", name="generated", allow={"duplicate"})
    users = np.arange(dataset.num_users)
    held_out = Interactions(users, users % dataset.num_items, behaviour=np.full(len(users), Behaviour.PURCHASE))
    return dataclasses.replace(dataset, test=held_out)


def before_last(log: Interactions, behaviour: Behaviour, num_users: int) -> tuple[Interactions, Interactions]:
    """The events before each user's last of a behaviour, and that event; users without one keep all."""
    order = log.order()
    user, is_target = log.user[order], log.behaviour[order] == behaviour
    last = np.full(num_users, -1)
    last[user[is_target]] = np.flatnonzero(is_target)
    before = (last[user] < 0) | (np.arange(len(user)) < last[user])
    return log.take(order[before]), log.take(order[last[last >= 0]])


def tasks(dataset: Dataset) -> dict[str, Task]:
    """The three targets."""
    log, num_users = dataset.interactions, dataset.num_users
    assert dataset.test is not None

    def last(behaviour: Behaviour) -> Task:
        before, test = before_last(log, behaviour, num_users)
        before_both, validation = before_last(before, behaviour, num_users)
        return Task(behaviour, (before_both, before), (validation, test))

    once = data.strongest(log)
    before, validation = before_last(once, Behaviour.PURCHASE, num_users)
    new = Task(Behaviour.PURCHASE, (before, once), (validation, dataset.test), new=True)
    return {"next purchase": last(Behaviour.PURCHASE), "purchase, new item": new, "next view": last(Behaviour.VIEW)}


def only(log: Interactions, behaviour: Behaviour) -> Interactions:
    """The events of one behaviour."""
    return log.take(log.behaviour == behaviour)


def of_counts(model: Any, observation: Observation) -> jax.Array:
    """The same of collaborative filtering."""
    return model.scores(observation.history)


class Ranking:
    """Histories, items met before and targets of a task, for one kind of input."""

    def __init__(self, dataset: Dataset, task: Task, given: str, config: Config) -> None:
        self.users = dataset.num_users
        own = given == INPUTS[2]
        self.known = [only(log, task.behaviour) if own else log for log in task.known]
        self.tasks = [
            data.next_items(shown, held_out, self.users, config.history_length, seen=task.met(log))
            for shown, log, held_out in zip(self.known, task.known, task.held_out, strict=True)
        ]
        self.protocol = Protocol(
            split=f"the owner's {task.behaviour.name.lower()}" if task.new else f"last {task.behaviour.name.lower()}",
            history_length=config.history_length,
            item_filter="all, less those met" if task.new else "all, less those with the target's behaviour",
        )

    def metrics(self, score: Any, part: int) -> dict[str, float]:
        """Of the validation targets (part 0) or the test targets (part 1)."""
        task = self.tasks[part]
        found = evaluate(score, task.observation, task.targets, self.protocol, seen=task.seen, batch_size=128)
        return {short: found.metrics[name] for short, name in METRICS.items()}


def train(dataset: Dataset, task: Task, ranking: Ranking, given: str, seed: int, config: Config) -> Any:
    """A trained model as a function of observations."""
    items = data.item_features(dataset, task.known[0]).without_features()
    module = nn.Recommendation(
        item=nn.ItemTower(dataset.num_items, config.dim, initial_norm=0.2),
        user=nn.UserTower(
            config.dim,
            functools.partial(nn.SelfAttentionEncoder, num_blocks=1, num_heads=1, dropout=0.3, norm="query"),
            project=False,
            use_behaviour=given == INPUTS[0],
        ),
        normalized=False,
        temperature=1.0,
    )
    training = SequenceConfig(
        epochs=config.epochs,
        batch_size=64,
        history_length=config.history_length,
        learning_rate=2e-3,
        loss="softmax",
        target_behaviours=(task.behaviour,),
        num_buckets=1 if config.smoke else 6,
    )

    def score(params: PyTree) -> Any:
        return nn.scorer(module, params, items)

    fitted = fit_sequences(
        module,
        data.sequences(ranking.known[0], dataset.num_users),
        items,
        training,
        key=jax.random.key(seed),
        hooks=Hooks(lambda epoch, params: ranking.metrics(score(params), 0), EarlyStopping("NDCG@10", 10)),
    )
    return score(fitted.params)


def main(study: Study) -> None:
    config: Any = study.config
    dataset = generated() if config.smoke else data.load("retailrocket", data_dir=config.data_dir)
    results: list[Result] = []
    for target, task in tasks(dataset).items():
        for model in COUNTS if config.smoke and results else (*COUNTS, "SASRec"):
            inputs = INPUTS[1:] if model in COUNTS else INPUTS[:1] if config.smoke else INPUTS
            for given, seed in itertools.product(inputs, range(1 if model in COUNTS else config.seeds)):
                condition = {"target": target, "model": model, "input": given}
                compute = functools.partial(result, dataset, task, condition, seed, config)
                results.append(study.result(compute, seed, condition, ["data_dir"]))
    show(study, dataset, results)


def result(dataset: Dataset, task: Task, condition: dict[str, Any], seed: int, config: Config) -> dict[str, Any]:
    """What one model scores, ready for JSON."""
    given = condition["input"]
    ranking = Ranking(dataset, task, given, config)
    if condition["model"] in COUNTS:
        model = COUNTS[condition["model"]](ranking.known[0], dataset.num_items)
        score = jax.tree_util.Partial(of_counts, model)
    else:
        score = train(dataset, task, ranking, given, seed, config)
    return {"protocol": str(ranking.protocol), **ranking.metrics(score, 1)}


def show(study: Study, dataset: Dataset, results: list[Result]) -> None:
    """One table."""
    rows: dict[tuple[str, ...], list[Result]] = {}
    for each in results:
        rows.setdefault(tuple(each.condition.values()), []).append(each)
    lines = [
        ([*row, *(mean_and_spread([each.found[metric] for each in found]) for metric in METRICS)], found)
        for row, found in rows.items()
    ]
    title = f"{dataset.name}: {dataset.num_users:,} users, {dataset.num_items:,} items"
    study.show(title, ["target", "model", "input", *METRICS], lines, left=3)


if __name__ == "__main__":
    run(__file__, __doc__, Config, main, history_length=10, dim=8, epochs=1)
