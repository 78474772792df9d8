"""What self-supervision and pseudo-labels add where users have left few events.

    python experiments/sequence/few_labels.py              # about 20 min on 2 cores
    python experiments/sequence/few_labels.py --smoke      # a generated log, seconds

Of every user's training events only the newest few are kept. A causal transformer then learns the next item alone;
with a contrastive loss of two views of each history (CL4SRec); after a pretraining on masked items (the towers of a
BERT4Rec carry over their item vectors); from histories that a first model has made longer (pseudo-labels); or reads
the genres of items too, without and with the loss of telling those of the next item (as S³-Rec). The whole catalogue is
ranked at each user's last event. Prints one table of NDCG@10, mean and half the range over seeds. Every training writes
one JSON file below ``--out``; a study that was killed and is started again goes on after the last of them.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _generated import ring
from _results import Result
from runner import Options, Study, mean_and_spread, run

from recjax import data, nn
from recjax.data import Dataset, Interactions, NextItems
from recjax.eval import Protocol, evaluate
from recjax.fit import EarlyStopping, Hooks
from recjax.models.sequence import SequenceConfig, Start, fit_sequences, pseudo_labels
from recjax.types import Items, PyTree


@dataclasses.dataclass(frozen=True)
class Config(Options):
    data: str = "ml-100k"
    """Named data set."""
    events: tuple[int, ...] = (3, 10, 30)
    """Newest training events that are kept of each user."""
    epochs: int = 60
    """At most; training stops after six without a better NDCG@10 of the validation items."""
    dim: int = 32
    """Width of the vectors."""
    history_length: int = 50
    """Events that the model sees."""
    labels: int = 2
    """Pseudo-labels of a user."""


WAYS: dict[str, dict[str, Any]] = {
    "next item": {},
    "+ contrastive views": {"contrastive": 0.1, "accumulate": 1},
    "after masked items": {},
    "+ pseudo-labels": {},
    "genres are read": {},
    "genres are read and told": {"attributes": 0.1},
}


@dataclasses.dataclass(frozen=True)
class Problem:
    """A log of short histories, and what is asked of it.

    Attributes:
      dataset: names and sizes.
      train: the kept training events.
      items: their genres.
      parts: what is known and asked for, of the validation and of the test items.
      protocol: how it is measured.
    """

    dataset: Dataset
    train: Interactions
    items: Items
    parts: tuple[NextItems, NextItems]
    protocol: Protocol


def newest(log: Interactions, count: int) -> Interactions:
    """The newest events of every user, at most ``count``."""
    order = log.order()
    user = log.user[order]
    ends = np.searchsorted(user, user, side="right")
    return log.take(order[ends - np.arange(len(user)) <= count])


def problem(dataset: Dataset, events: int, config: Config) -> Problem:
    """The data set with short histories, in training and in use."""
    split = data.leave_one_out(dataset.interactions)
    train = newest(split.train, events)
    # What a user had before is no answer, though the model does not see it.
    validation = data.next_items(train, split.validation, dataset.num_users, config.history_length, seen=split.train)
    before = data.concatenate(split.train, split.validation)
    shown = data.concatenate(train, split.validation)
    test = data.next_items(shown, split.test, dataset.num_users, config.history_length, seen=before)
    protocol = Protocol(
        split=f"{split.protocol}, newest {events} training events", history_length=config.history_length
    )
    items = data.item_features(dataset, train)
    items = items.without_features().with_features(genres=items.features["genres"])
    return Problem(dataset, train, items, (validation, test), protocol)


def module(of: Problem, config: Config, encoder: Any) -> nn.Recommendation:
    """A recommender of ids, and of genres where it is given them."""
    return nn.Recommendation(
        item=nn.ItemTower(of.dataset.num_items, config.dim, initial_norm=0.2),
        user=nn.UserTower(config.dim, encoder, use_behaviour=False, project=False),
        normalized=False,
        temperature=1.0,
    )


def train(of: Problem, way: str, seed: int, config: Config) -> float:
    """Test NDCG@10 of one training."""
    causal = functools.partial(nn.SelfAttentionEncoder, num_heads=1, dropout=0.3, norm="query", expansion=1)
    both_sides = functools.partial(nn.BidirectionalEncoder, num_blocks=1, num_heads=1, dropout=0.3, expansion=1)
    network, options = module(of, config, causal), WAYS[way]
    items = of.items if way.startswith("genres") else of.items.without_features()

    def ndcg(network: nn.Recommendation, params: PyTree, part: int) -> float:
        task = of.parts[part]
        score = nn.scorer(network, params, items)
        return evaluate(score, task.observation, task.targets, of.protocol, seen=task.seen).metrics["ndcg@10"]

    def fit(network: nn.Recommendation, log: data.Sequences, params: PyTree | None = None, **changes: Any) -> PyTree:
        training = SequenceConfig(
            epochs=config.epochs, batch_size=64, history_length=config.history_length, learning_rate=3e-3,
            weight_decay=0.01, num_buckets=1 if config.smoke else 6, **changes,
        )  # fmt: skip
        return fit_sequences(
            network, log, items, training, key=jax.random.key(seed), start=Start(params),
            hooks=Hooks(
                lambda epoch, params: {"ndcg@10": ndcg(network, params, 0)}, EarlyStopping("ndcg@10", 6)
            ),
        ).params  # fmt: skip

    log = data.sequences(of.train, of.dataset.num_users)
    if way == "after masked items":
        learned = fit(module(of, config, both_sides), log, objective="cloze", last_only_share=0.2)
        shown = jax.tree.map(lambda x: x[:1], of.parts[0].observation)
        fresh = jax.jit(network.init)(jax.random.key(seed), shown, items)
        start = {"params": fresh["params"] | {"item": learned["params"]["item"]}}
        return ndcg(network, fit(network, log, start), 1)
    params = fit(network, log, **options)
    if way == "+ pseudo-labels":
        longer = pseudo_labels(
            network,
            params,
            log,
            items,
            history_length=config.history_length,
            per_user=config.labels,
        )
        params = fit(network, longer, params)
    return ndcg(network, params, 1)


def main(study: Study) -> None:
    config: Any = study.config
    dataset = ring() if config.smoke else data.load(config.data)
    results: list[Result] = []
    for events in config.events:
        of = problem(dataset, events, config)
        ways = list(WAYS)[-3::2] if config.smoke else WAYS
        conditions = [{"events": events, "way": way, "options": WAYS[way]} for way in ways]
        results += study.grid(conditions, lambda condition, seed: result(of, condition, seed, config), ["events"])  # noqa: B023
    show(study, results)


def result(of: Problem, condition: dict[str, Any], seed: int, config: Config) -> dict[str, Any]:
    """What one training scores, ready for JSON."""
    return {"protocol": str(of.protocol), "ndcg@10": train(of, condition["way"], seed, config)}


def show(study: Study, results: list[Result]) -> None:
    """One table: ways by how many events are kept."""
    counts = list(dict.fromkeys(result.condition["events"] for result in results))
    protocol = results[0].found["protocol"].replace(f", newest {counts[0]} training events", "")
    lines = []
    for way in dict.fromkeys(result.condition["way"] for result in results):
        of_way = [result for result in results if result.condition["way"] == way]
        by_count = [[result.found["ndcg@10"] for result in of_way if result.condition["events"] == n] for n in counts]
        lines.append(([way, *map(mean_and_spread, by_count)], of_way))
    title = f"{study.config.data}, NDCG@10 by training events of a user"
    study.show(title, ["way", *map(str, counts)], lines, caption=protocol)


if __name__ == "__main__":
    run(__file__, __doc__, Config, main, events=(4,), epochs=1, dim=8, history_length=10)
