"""What the studies of new items and users share: what is new, a SASRec of texts, and how it is trained and ranked."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _generated import ring
from _results import Result, config_hash
from runner import LongOptions, Study, stated

from recjax import data, language, nn
from recjax.data import Dataset, Interactions, NextItems
from recjax.eval import Evaluation, Protocol, evaluate
from recjax.fit import Callback, Checkpoints, Fitted, Hooks, Progress
from recjax.models.sequence import SequenceConfig, fit_sequences
from recjax.types import PAD_ID, Behaviour, Items, Observation, PyTree

PARTS = ("cold", "warm")
"""Items that no training has seen, and the others."""
METRICS = {"HR@10": "hit_rate@10", "NDCG@10": "ndcg@10"}
TEXTS_ALONE = {"use_id": False}
"""Options of a network that knows items by their texts and nothing else."""


@dataclasses.dataclass(frozen=True)
class New:
    """What no training has seen.

    Attributes:
      item_share: of the items, drawn at random.
      rounds: in which these are released, as many in each.
      user_share: of the users, drawn at random.
      first_events: of a new user, which are known when the next one is asked for.
    """

    item_share: float = 0.0
    rounds: int = 1
    user_share: float = 0.0
    first_events: int = 10


COLD = New(item_share=0.2)


@dataclasses.dataclass(frozen=True)
class NewConfig(LongOptions):
    """Options of all studies of new items and users."""

    new: New = COLD
    """What no training has seen."""
    data: str = "ml-1m"
    """Named data set whose items have titles and genres."""
    language: str = "minilm"
    """Language model, a name or a folder."""
    dim: int = 64
    """Width of the vectors."""
    history_length: int = 50
    """Events that a model sees."""
    epochs: int = 5
    """Of a training on the log, with all windows of all histories."""
    learning_rate: float = 2e-3
    """The peak."""
    seeds: int = 5
    """Of the draws, the initial parameters and the training."""


@dataclasses.dataclass(frozen=True)
class RankingConfig(NewConfig):
    """Options of those that rank what happened in the log."""

    dropout: float = 0.1
    """Between layers."""
    batch_size: int = 128
    """Windows of a batch."""
    warmup_steps: int = 100
    """Over which the rate rises to its peak."""


Language = Callable[[], language.LanguageModel]
"""Reads the language model of a study, once, and only where there is something to train."""


def each_seed(study: Study, result: Callable[[Dataset, int, Language, Any], dict[str, Any]]) -> list[Result]:
    """What every seed of a study finds."""
    config: Any = study.config
    dataset = ring() if config.smoke else data.with_enough_events(data.load(config.data), per_item=5)
    get_model = functools.cache(
        lambda: tiny(data.item_texts(dataset)) if config.smoke else language.load(config.language)
    )
    return study.grid([{}], lambda condition, seed: result(dataset, seed, get_model, config))


def learn(
    module: nn.Recommendation,
    log: Interactions,
    items: Items,
    name: str,
    seed: int,
    config: RankingConfig,
    training: dict[str, Any] | None = None,
    callback: Callback | None = None,
    **options: Any,
) -> Fitted:
    """Trains on a log; ``training`` are other options than the study's, and ``name`` is that of checkpoints."""
    said = {
        "epochs": config.epochs, "batch_size": config.batch_size, "learning_rate": config.learning_rate,
        "warmup_steps": config.warmup_steps, "num_buckets": 1 if config.smoke else 6,
    }  # fmt: skip
    given = SequenceConfig(
        history_length=config.history_length, windows="all", schedule="cosine", weight_decay=0.01, max_grad_norm=1.0,
        **said | (training or {}),
    )  # fmt: skip
    title = name.replace(" ", "_").replace(",", "")
    checkpoints = Checkpoints(config.work / f"{title}-{config_hash({}, stated(config, 'rows'))}-{seed}", keep=1)
    with Progress(enabled=not config.smoke) as progress:
        return fit_sequences(
            module, data.sequences(log, int(log.user.max()) + 1), items, given, key=jax.random.key(seed),
            hooks=Hooks(callback, progress=progress, checkpoints=checkpoints), **options,
        )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Problem:
    """One draw of what is new.

    Attributes:
      dataset: all items: first those that training sees, then the others in the order in which they are released.
      order: ``i[N]`` the ids of these items in the data set from which the problem is drawn.
      num_known: items that training sees.
      per_round: items that each round releases.
      train: the training events, of known items by known users.
      items: what is known of all items besides texts and genres.
      test: what is known of users and asked for.
      history_length: events that a model sees.
    """

    dataset: Dataset
    order: np.ndarray
    num_known: int
    per_round: int
    train: Interactions
    items: Items
    test: NextItems
    history_length: int

    def known(self, items: Items) -> Items:
        """Those that training sees."""
        return jax.tree.map(lambda leaf: leaf[: self.num_known], items)

    def whitened(self, vectors: np.ndarray, dim: int) -> language.Whitening:
        """The map of vectors of items to ``dim`` directions, fitted to known items, as the others come later."""
        return language.fit_whitening(vectors[: self.num_known], dim)


def problem(dataset: Dataset, rng: np.random.Generator, new: New, history_length: int) -> Problem:
    """Draws new items and puts them behind the others, or draws new users.

    Of new items, the last event of every user is asked for, and the last two are in no training. Of new users,
    the event after the first ones is asked for, and none of their events are in training.
    """
    if new.item_share and new.user_share:
        raise ValueError(f"{new} has new items and new users; set item_share or user_share to 0.")
    per_round = round(new.item_share * dataset.num_items) // new.rounds
    num_known = dataset.num_items - new.rounds * per_round
    order = np.arange(dataset.num_items)
    if new.user_share:
        train, test = _new_users(dataset, rng, new)
    else:
        order = rng.permutation(dataset.num_items)
        dataset = data.with_items(dataset, order)
        split = data.leave_one_out(dataset.interactions)
        before = data.concatenate(split.train, split.validation)
        test = data.next_items(before, split.test, dataset.num_users, history_length)
        train = split.train.take(split.train.item < num_known)
    items = data.item_features(dataset, train).without_features()
    return Problem(dataset, order, num_known, per_round, train, items, test, history_length)


def _new_users(dataset: Dataset, rng: np.random.Generator, new: New) -> tuple[Interactions, NextItems]:
    """The log of the others, and the first events of new users with the one after them, where there are enough."""
    log = dataset.interactions
    order = log.order()
    user, item = log.user[order], log.item[order]
    starts, counts = np.searchsorted(user, np.arange(dataset.num_users)), np.bincount(user, minlength=dataset.num_users)
    drawn = rng.permutation(dataset.num_users)[: round(new.user_share * dataset.num_users)]
    asked = drawn[counts[drawn] > new.first_events]
    events = item[starts[asked][:, None] + np.arange(new.first_events + 1)].astype(np.int32)
    first = Interactions(np.repeat(np.arange(len(asked)), new.first_events), events[:, :-1].ravel())
    task = NextItems(shown(events[:, :-1]), data.SeenItems.of(first, len(asked)), jnp.asarray(events[:, -1]))
    return log.take(~np.isin(log.user, drawn)), task


def shown(history: np.ndarray) -> Observation:
    """Items that are shown as clicked, padded with ``PAD_ID``."""
    behaviour = np.where(history == PAD_ID, PAD_ID, int(Behaviour.CLICK)).astype(np.int32)
    return Observation(jnp.asarray(history), jnp.asarray(behaviour))


def sasrec(num_items: int, config: RankingConfig, **options: Any) -> nn.Recommendation:
    """Of the ``dim`` and ``dropout`` of a study, with inner products as scores; ``options`` are those of its items."""
    encoder = functools.partial(
        nn.SelfAttentionEncoder, num_blocks=2, num_heads=1, norm="query", expansion=1, activation="relu",
        dropout=config.dropout,
    )  # fmt: skip
    return nn.Recommendation(
        item=nn.ItemTower(num_items, config.dim, initial_norm=0.2, **options),
        user=nn.UserTower(config.dim, encoder, project=False, use_behaviour=False),
        normalized=False,
        temperature=1.0,
    )


def named(evaluation: Evaluation) -> dict[str, float]:
    """The metrics of the studies, ready for JSON."""
    return {short: evaluation.metrics[key] for short, key in METRICS.items()}


def rank(of: Problem, module: Any, params: PyTree, items: Items, part: str) -> Evaluation:
    """How the test items of one part stand among the items of that part."""
    is_cold = np.arange(of.dataset.num_items) >= of.num_known
    among = is_cold if part == "cold" else ~is_cold
    targets = np.asarray(of.test.targets)
    targets = np.where((targets >= 0) & among[targets], targets, PAD_ID)
    protocol = Protocol(
        split="leave-one-out by time",
        history_length=of.history_length,
        item_filter=f"{part}, ranked among themselves",
    )
    index = jax.jit(functools.partial(module.apply, method="item_index"))(params, items)
    score = nn.scorer(module, params, items, index=index)
    return evaluate(score, of.test.observation, targets, protocol, seen=of.test.seen, candidates=jnp.asarray(among))


def tiny(texts: list[str]) -> language.LanguageModel:
    """A random language model with a tokenizer of its own."""
    tokenizer = language.train_wordpiece(texts, vocab_size=80, max_length=16)
    shape = {"dim": 16, "num_layers": 3, "num_heads": 2, "feed_forward": 16}
    config = language.LanguageConfig("bert", vocab_size=80, max_length=16, **shape)
    return language.initialize(config, jax.random.key(0), tokenizer)
