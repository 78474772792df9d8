"""Users of whom nothing is known but a sentence of taste or a few clicks.

    python experiments/language/new_users.py                # MovieLens-1M, 3 seeds
    python experiments/language/new_users.py --smoke        # a generated log, tiny language model, seconds

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
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _new_items import (
    METRICS,
    TEXTS_ALONE,
    Language,
    New,
    RankingConfig,
    each_seed,
    learn,
    named,
    problem,
    sasrec,
    shown,
)
from _results import Result
from runner import Study, mean_and_spread, run

from recjax import catalogue, data, language, nn
from recjax.data import Dataset
from recjax.eval import Protocol, evaluate
from recjax.models import Popularity, popularity
from recjax.types import PAD_ID, Feature, Items, Observation

NEAREST = 50
"""Items whose texts are nearest to a sentence, of which the most popular stand for it."""


NEW_USERS = New(user_share=0.2)


@dataclasses.dataclass(frozen=True)
class Config(RankingConfig):
    new: New = NEW_USERS
    """What no training has seen."""
    clicks: tuple[int, ...] = (1, 3, 10)
    """How many of the first events of a new user are shown, the newest."""
    sentence: str = "{genres}"
    """What a user says, with the two genres in the place of ``{genres}``."""
    text_dim: int = 64
    """Directions of the vectors of texts that are kept, those of the largest variance."""
    seeds: int = 3
    """Of the draw of new users, the initial parameters and the training."""


def sentences_of(dataset: Dataset, known: np.ndarray, sentence: str) -> list[str]:
    """What each user says: the two most frequent genres of the known items, ``i32[U, K]``."""
    liked = dataset.multi_hot[known].sum(axis=1)
    favourites = np.argsort(-liked, axis=1, kind="stable")[:, :2]
    genres = np.array(dataset.genres)
    return [sentence.format(genres=", ".join(genres[columns])) for columns in favourites]


def examples_of(sentences: np.ndarray, texts: np.ndarray, popularity: np.ndarray, length: int) -> np.ndarray:
    """Items that stand for sentences, ``i32[U, length]``, the most popular last, the first place empty."""
    index = catalogue.ItemIndex.cosine(jnp.asarray(texts))
    nearest = np.asarray(catalogue.top_k(jnp.asarray(sentences), index, min(NEAREST, len(texts)))[1])
    order = np.argsort(popularity[nearest], axis=1, kind="stable")
    chosen = np.take_along_axis(nearest, order, axis=1)[:, 1 - length :]
    return np.pad(chosen.astype(np.int32), ((0, 0), (1, 0)), constant_values=PAD_ID)


def histories(known: np.ndarray, num_items: int, clicks: int, told: np.ndarray | None) -> np.ndarray:
    """What is shown of new users, ``i32[U, K + 1]``: item ``num_items + s`` is sentence ``s``."""
    history = np.full((len(known), known.shape[1] + 1), PAD_ID, np.int32)
    if clicks:
        history[:, -clicks:] = known[:, -clicks:]
    if told is not None:
        history[:, -clicks - 1] = num_items + told
    return history


def result(dataset: Dataset, seed: int, get_model: Language, config: Config) -> dict[str, Any]:
    """What one draw of new users found, ready for JSON."""
    of, num_items = problem(dataset, np.random.default_rng(seed), config.new, config.history_length), dataset.num_items
    # The first events of the new users, in their order.
    known, items = np.asarray(of.test.observation.history)[:, -config.new.first_events :], of.items
    sentences = sentences_of(dataset, known, config.sentence)
    read = functools.partial(language.encode, get_model(), cache=config.work / "vectors")
    vectors = read(data.item_texts(dataset))
    white = of.whitened(vectors, config.text_dim)
    known_items = items.with_features(vectors=Feature(jnp.asarray(white(vectors)), "vectors"))
    module = sasrec(num_items, config, **TEXTS_ALONE)
    params = learn(module, of.train, known_items, config.data, seed, config).params

    said, counts = read(sentences), np.asarray(items.popularity)
    # Sentences stand behind the items, and no list contains them.
    users = len(known)
    with_sentences = Items(
        popularity=jnp.concatenate([items.popularity, jnp.zeros(users)]),
        is_new=jnp.concatenate([items.is_new, jnp.zeros(users, bool)]),
        features={"vectors": Feature(jnp.asarray(np.concatenate([white(vectors), white(said)])), "vectors")},
    )
    module = sasrec(num_items + users, config, **TEXTS_ALONE)
    index = jax.jit(functools.partial(module.apply, method="item_index"))(params, with_sentences)
    score = nn.scorer(module, params, with_sentences, index=index)
    candidates = jnp.arange(num_items + users) < num_items
    first = config.new.first_events
    protocol = Protocol(
        split=f"event {first + 1} of users that were not trained",
        history_length=first + 1,
        item_filter="without sentences",
    )

    def measure(score: Any, clicks: int, told: np.ndarray | None) -> dict[str, float]:
        return measured(score, histories(known, num_items, clicks, told))

    def measured(score: Any, history: np.ndarray) -> dict[str, float]:
        task = of.test
        return named(evaluate(score, shown(history), task.targets, protocol, seen=task.seen, candidates=candidates))

    own = np.arange(users)
    others = np.random.default_rng(seed).permutation(users)
    popular = jax.tree_util.Partial(by_popularity, popularity(of.train, num_items + users))
    rows = {"popularity": measure(popular, 0, None), "nothing": measure(score, 0, None)}
    for name, told in (("a sentence", own), ("the sentence of another user", others)):
        rows[name] = measure(score, 0, told)
        rows[f"{name}, as items near it"] = measured(score, examples_of(said[told], vectors, counts, first + 1))
    for clicks in config.clicks:
        name = f"{clicks} click{'s' if clicks > 1 else ''}"
        rows[name] = measure(score, clicks, None)
        rows[f"a sentence and {name}"] = measure(score, clicks, own)
    return {"users": users, "protocol": str(protocol), "sentence": sentences[0], "rows": rows}


def by_popularity(model: Popularity, observation: Observation) -> jax.Array:
    return model.scores(observation.history)


def show(study: Study, results: list[Result]) -> None:
    """One row a kind of knowledge, seeds together."""
    first = results[0].found
    lines = []
    for name in first["rows"]:
        found = [each.found["rows"][name] for each in results]
        lines.append(([name, *(mean_and_spread([row[metric] for row in found]) for metric in METRICS)], results))
    title = f"{study.config.data}: {first['users']:,} new users, who say such as “{first['sentence']}”"
    study.show(title, ["known of a user", *METRICS], lines, caption=first["protocol"])


def main(study: Study) -> None:
    show(study, each_seed(study, result))


if __name__ == "__main__":
    run(
        __file__, __doc__, Config, main,
        new=New(user_share=0.2, first_events=4), clicks=(2,), dim=8, text_dim=4, warmup_steps=0, history_length=8,
        epochs=1, batch_size=32,
    )  # fmt: skip
