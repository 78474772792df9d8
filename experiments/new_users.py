"""Users of whom nothing is known but a sentence of taste or a few clicks.

    python experiments/new_users.py                # MovieLens-1M, 3 seeds
    python experiments/new_users.py --smoke        # a generated log and a tiny random language model, seconds

A share of the users is new: the model is trained without them. It knows items by what a pretrained language model
makes of their titles and genres, so a sentence has a place among items. It is read like one, as the oldest event of a
history; or it stands for items, the most popular of those whose texts are nearest to it, which are read as the
history. Of every new user the first events are known and the one after them is asked for, the whole catalogue ranked
without the items of those. The sentence names the two most frequent genres of the known events, which stands for
what people would say of themselves.

Rows: popularity; nothing; the sentence in both ways; the newest few clicks; both; and, as a control, the sentence of
another user.
Prints one table, mean and half the range over seeds. Every seed writes one JSON file below ``--out``, and its training
its checkpoints below ``--work``; a study that was killed and is started again goes on from there.
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from _new_items import METRICS, TEXTS_ALONE, Language, StudyConfig, each_seed, learn, named, sasrec
from _runs import mean_and_spread, run_study, stated
from rich.console import Console
from rich.table import Table

from recjax import catalogue, data, language, nn
from recjax.data import Dataset, Interactions
from recjax.eval import Protocol, evaluate
from recjax.models import Popularity, popularity
from recjax.types import PAD_ID, Behaviour, Feature, Items, Observation

NEAREST = 50
"""Items whose texts are nearest to a sentence, of which the most popular stand for it."""


@dataclasses.dataclass(frozen=True)
class Config(StudyConfig):
    new_share: float = 0.2
    """Of the users."""
    known: int = 10
    """First events of a new user, of which the newest are shown."""
    clicks: tuple[int, ...] = (1, 3, 10)
    """How many of them are shown."""
    sentence: str = "{genres}"
    """What a user says, with the two genres in the place of ``{genres}``."""
    text_dim: int = 64
    """Directions of the vectors of texts that are kept, those of the largest variance."""
    seeds: int = 3
    """Of the draw of new users, the initial parameters and the training."""
    out: Path = Path("experiments/results/new_users")
    """Where the JSON files go."""
    work: Path = Path("runs/new_users")
    """Where checkpoints and vectors of texts go."""


@dataclasses.dataclass(frozen=True)
class Problem:
    """One draw of new users.

    Attributes:
      train: the events of the others.
      known: ``i32[U, known]`` the first events of new users, oldest first.
      targets: ``i32[U]`` the event after them.
      sentences: what each says.
    """

    train: Interactions
    known: np.ndarray
    targets: np.ndarray
    sentences: list[str]


def problem(dataset: Dataset, seed: int, config: Config) -> Problem:
    """Draws new users, of those with enough events."""
    log = dataset.interactions
    order = log.order()
    user, item = log.user[order], log.item[order]
    starts, counts = np.searchsorted(user, np.arange(dataset.num_users)), np.bincount(user, minlength=dataset.num_users)
    drawn = np.random.default_rng(seed).permutation(dataset.num_users)[: round(config.new_share * dataset.num_users)]
    new = drawn[counts[drawn] > config.known]
    first = item[starts[new][:, None] + np.arange(config.known + 1)]
    known, targets = first[:, :-1], first[:, -1]
    liked = dataset.multi_hot[known].sum(axis=1)
    favourites = np.argsort(-liked, axis=1, kind="stable")[:, :2]
    genres = np.array(dataset.genres)
    sentences = [config.sentence.format(genres=", ".join(genres[columns])) for columns in favourites]
    return Problem(log.take(~np.isin(log.user, drawn)), known.astype(np.int32), targets.astype(np.int32), sentences)


def examples_of(sentences: np.ndarray, texts: np.ndarray, popularity: np.ndarray, length: int) -> np.ndarray:
    """Items that stand for sentences, ``i32[U, length]``, the most popular last, the first place empty."""
    index = catalogue.ItemIndex.cosine(jnp.asarray(texts))
    nearest = np.asarray(catalogue.top_k(jnp.asarray(sentences), index, min(NEAREST, len(texts)))[1])
    order = np.argsort(popularity[nearest], axis=1, kind="stable")
    chosen = np.take_along_axis(nearest, order, axis=1)[:, 1 - length :]
    return np.pad(chosen.astype(np.int32), ((0, 0), (1, 0)), constant_values=PAD_ID)


def histories(of: Problem, num_items: int, clicks: int, told: np.ndarray | None) -> np.ndarray:
    """What is shown of new users, ``i32[U, known + 1]``: item ``num_items + s`` is sentence ``s``."""
    users, known = of.known.shape
    shown = np.full((users, known + 1), PAD_ID, np.int32)
    if clicks:
        shown[:, -clicks:] = of.known[:, -clicks:]
    if told is not None:
        shown[:, -clicks - 1] = num_items + told
    return shown


def result(dataset: Dataset, seed: int, get_model: Language, config: Config) -> dict[str, Any]:
    """What one draw of new users found, ready for JSON."""
    of, num_items = problem(dataset, seed, config), dataset.num_items
    items = data.item_features(dataset, of.train).without_features()
    read = functools.partial(language.encode, get_model(), cache=config.work / "vectors")
    vectors = read(data.item_texts(dataset))
    white = language.fit_whitening(vectors, config.text_dim)
    known_items = items.with_features(vectors=Feature(jnp.asarray(white(vectors)), "vectors"))
    module = sasrec(num_items, config, **TEXTS_ALONE)
    params = learn(module, of.train, known_items, config.data, seed, config).params

    said, counts = read(of.sentences), np.asarray(items.popularity)
    # Sentences stand behind the items, and no list contains them.
    users = len(of.targets)
    with_sentences = Items(
        popularity=jnp.concatenate([items.popularity, jnp.zeros(users)]),
        is_new=jnp.concatenate([items.is_new, jnp.zeros(users, bool)]),
        features={"vectors": Feature(jnp.asarray(np.concatenate([white(vectors), white(said)])), "vectors")},
    )
    module = sasrec(num_items + users, config, **TEXTS_ALONE)
    index = jax.jit(functools.partial(module.apply, method="item_index"))(params, with_sentences)
    score = nn.scorer(module, params, with_sentences, index=index)
    candidates = jnp.arange(num_items + users) < num_items
    protocol = Protocol(
        split=f"event {config.known + 1} of users that were not trained",
        history_length=config.known + 1,
        item_filter="without sentences",
    )

    def measure(score: Any, clicks: int, told: np.ndarray | None) -> dict[str, float]:
        return measured(score, histories(of, num_items, clicks, told))

    def measured(score: Any, shown: np.ndarray) -> dict[str, float]:
        behaviour = np.where(shown == PAD_ID, PAD_ID, int(Behaviour.CLICK)).astype(np.int32)
        observation = Observation(jnp.asarray(shown), jnp.asarray(behaviour))
        seen = jnp.asarray(of.known)
        return named(evaluate(score, observation, of.targets, protocol, seen=seen, candidates=candidates))

    own = np.arange(users)
    others = np.random.default_rng(seed).permutation(users)
    popular = jax.tree_util.Partial(by_popularity, popularity(of.train, num_items + users))
    rows = {"popularity": measure(popular, 0, None), "nothing": measure(score, 0, None)}
    for name, told in (("a sentence", own), ("the sentence of another user", others)):
        rows[name] = measure(score, 0, told)
        rows[f"{name}, as items near it"] = measured(score, examples_of(said[told], vectors, counts, config.known + 1))
    for clicks in config.clicks:
        name = f"{clicks} click{'s' if clicks > 1 else ''}"
        rows[name] = measure(score, clicks, None)
        rows[f"a sentence and {name}"] = measure(score, clicks, own)
    return {
        "data": dataset.name, "seed": seed, "config": stated(config), "users": users, "protocol": str(protocol),
        "sentence": of.sentences[0], "rows": rows,
    }  # fmt: skip


def by_popularity(model: Popularity, observation: Observation) -> jax.Array:
    return model.scores(observation.history)


def show(results: list[dict[str, Any]]) -> None:
    """One row a kind of knowledge, seeds together."""
    first = results[0]
    title = f"{first['data']}: {first['users']:,} new users, who say such as “{first['sentence']}”"
    table = Table(title=title, caption=first["protocol"], title_justify="left", caption_justify="left")
    table.add_column("what is known of a user")
    for heading in METRICS:
        table.add_column(heading, justify="right")
    for name in first["rows"]:
        found = [each["rows"][name] for each in results]
        table.add_row(name, *(mean_and_spread([row[metric] for row in found]) for metric in METRICS))
    Console(width=120).print(table)


def main(config: Config) -> None:
    show(each_seed(result, config))


if __name__ == "__main__":
    small = {
        "dim": 8, "text_dim": 4, "warmup_steps": 0, "history_length": 8, "epochs": 1, "seeds": 1, "batch_size": 32,
        "known": 4, "clicks": (2,),
    }  # fmt: skip
    run_study(main, tyro.cli(Config, description=__doc__), **small)
