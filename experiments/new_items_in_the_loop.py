"""What a pretrained language model adds in the closed loop, where half of what can be shown is always new.

    python experiments/new_items_in_the_loop.py              # MovieLens-100K, 10 seeds
    python experiments/new_items_in_the_loop.py --smoke      # generated users and a tiny random language model, seconds

A part of the catalogue is known from a log; in every round some more of it is released, in an order drawn by the seed,
and on offer are the newly released items and those of the round before. A recommender is trained on the log of the
known items and starts a DQN, which goes through the rounds: it meets new items, is shown to users, and learns
from their satisfaction. All policies are one network and differ in what they know of an item besides its id, which
starts as zero:

* texts: vectors of titles and genres by a pretrained language model, whitened;
* random vectors of the same shape: what is due to the network and the larger number of inputs;
* ids alone.

The users' tastes are factors of ids, fitted to all interactions of the log. They use no text and no genres, so
no policy wins by construction. The oracle knows the tastes and shows the best items of the moment; it does not plan.

At the start of every round, before anything new was shown, and at its end: satisfaction of a slate and what it
lacks to the oracle's (regret), the share of the newly released items that were shown (coverage of new items), and
the share of slots that showed one. Prints one table a metric, mean and 95 % interval over seeds, and the paired
difference of texts to the controls. Every seed writes one JSON file below ``--out``; a study that was killed and is
started again goes on after the last of them. Offers are of one size, so with ``JAX_COMPILATION_CACHE_DIR`` set each
policy is compiled once and not once a round.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
import tyro
from _new_items import tiny
from _runs import kept, recipe_hash, run_study, stated
from rich.console import Console
from rich.table import Table

from recjax import agents, catalogue, data, envs, fit, language, loop, nn, rewards
from recjax.data import Dataset
from recjax.envs import Environment, Preference
from recjax.eval import mean_interval, paired_difference
from recjax.models.sequence import SequenceConfig, fit_sequences
from recjax.types import Array, Feature, Items, Observation, PyTree

POLICIES = ("texts", "random vectors", "ids")
METRICS = {
    "satisfaction_per_slate": "satisfaction of a slate",
    "regret": "regret of a slate",
    "new_coverage": "coverage of new items",
    "novelty_new": "share of slots with new items",
}


@dataclasses.dataclass(frozen=True)
class Config:
    data: str = "ml-100k"
    """Named data set whose items have titles, genres and ratings."""
    language: str = "minilm"
    """Language model, a name or a folder."""
    known_share: float = 0.5
    """Of the items, at least, known from the log."""
    rounds: int = 5
    """In which the others are released, as many in each."""
    steps: int = 40
    """Slates of every user in a round."""
    users: int = 128
    """Users served at once."""
    slate_size: int = 5
    """Items of a slate."""
    text_dim: int = 32
    """Directions of the vectors of texts that are kept, those of the largest variance."""
    id_dropout: float = 0.5
    """Of the vectors of ids, in the training on the log, so that descriptions learn to stand alone."""
    dim: int = 32
    """Width of the vectors."""
    history_length: int = 20
    """Events that a policy sees."""
    epochs: int = 20
    """Of the training on the log."""
    learning_rate: float = 1e-3
    """In the loop."""
    discount: float = 0.8
    """Of the DQN."""
    policies: tuple[str, ...] = POLICIES
    """What is compared; texts come first."""
    seeds: int = 10
    """Of the order of release, the users and the training."""
    out: Path = Path("experiments/results/new_items_in_the_loop")
    """Where the JSON files go."""
    work: Path = Path("runs/new_items_in_the_loop")
    """Where vectors of texts are kept."""
    smoke: bool = False
    """Generated users and one round: checks that the script runs."""


@dataclasses.dataclass(frozen=True)
class World:
    """One order of release.

    Attributes:
      dataset: all items, in the order in which they are known or released.
      preference: who likes what.
      known: items that are known.
      block: items that are released in a round.
      log: the events of the known items.
      vectors: of each policy's items, or None.
    """

    dataset: Dataset
    preference: Preference
    known: int
    block: int
    log: data.Interactions
    vectors: dict[str, np.ndarray | None]

    def offer(self, number: int) -> slice:
        """What can be shown in a round, the newly released items last; rounds count from 1."""
        until = self.known + number * self.block
        return slice(until - 2 * self.block, until)

    def items(self, policy: str, among: slice, new: int) -> Items:
        """What a policy knows of some items, of which the last are new."""
        counts = np.bincount(self.log.item, minlength=self.dataset.num_items)[among]
        vectors = self.vectors.get(policy)
        return Items(
            popularity=jnp.asarray(counts, jnp.float32),
            is_new=jnp.arange(len(counts)) >= len(counts) - new,
            features={} if vectors is None else {"vectors": Feature(jnp.asarray(vectors[among]), "vectors")},
        )

    def environment(self, items: Items, among: slice, config: Config, *, told: bool = False) -> Environment:
        """Users who answer slates of the items on offer; ``told`` lets policies see their tastes."""
        taste = self.preference
        on_offer = Preference(taste.user_vectors, taste.user_bias, taste.item_vectors[among], taste.item_bias[among])
        context = np.concatenate([taste.user_vectors, np.asarray(taste.user_bias)[:, None]], axis=1) if told else None
        names = () if context is None else tuple(map(str, range(context.shape[1])))
        dataset = data.with_items(
            dataclasses.replace(self.dataset, interactions=self.log, extras={}, context=context, context_names=names),
            np.arange(self.dataset.num_items)[among],
        )
        env = envs.logged(
            dataset, preference=on_offer, slate_size=config.slate_size, history_length=config.history_length
        )
        return env._replace(items=items)


def generated() -> Dataset:
    """Users who rate the films of the genre that they like."""
    rng = np.random.default_rng(0)
    user, item = np.repeat(np.arange(30), 20), rng.integers(0, 60, 600)
    frame = pl.DataFrame({
        "user": user, "item": item, "timestamp": np.arange(600), "rating": np.where((user + item) % 3 == 0, 5.0, 2.0),
    })  # fmt: skip
    columns = data.Columns(time="timestamp", rating="rating")
    dataset, _ = data.from_frame(frame, columns, time_format="s", name="generated", allow={"duplicate"})
    number = np.array(list(map(int, dataset.items.names)))
    return dataclasses.replace(
        dataset,
        titles=tuple(f"film {n} of kind {n % 3}" for n in number),
        genres=("a", "b", "c"),
        multi_hot=(number[:, None] % 3 == np.arange(3)[None]).astype(np.float32),
    )


def released(dataset: Dataset, preference: Preference, texts: np.ndarray, seed: int, config: Config) -> World:
    """Draws the order in which items are known and released."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(dataset.num_items)
    dataset = data.with_items(dataset, order)
    block = int((1 - config.known_share) * dataset.num_items) // config.rounds
    known = dataset.num_items - config.rounds * block
    log = dataset.interactions
    noise = rng.normal(size=texts.shape).astype(np.float32)
    # The map is fitted to known items: the others come later.
    white = {
        name: language.fit_whitening(vectors[:known], config.text_dim)(vectors)
        for name, vectors in (("texts", texts[order]), ("random vectors", noise))
    }
    tastes = dataclasses.replace(
        preference, item_vectors=preference.item_vectors[order], item_bias=preference.item_bias[order]
    )
    return World(dataset, tastes, known, block, log.take(log.item < known), white)


def towers(num_items: int, config: Config) -> dict[str, Any]:
    """What the recommender and the Q-network have in common."""
    encoder = functools.partial(nn.SelfAttentionEncoder, num_blocks=1, num_heads=1, norm="query", expansion=1)
    item = nn.ItemTower(num_items, config.dim, fusion="residual", id_dropout=config.id_dropout, initial_norm=0.2)
    return {"item": item, "user": nn.UserTower(config.dim, encoder, project=False)}


def trained_on_the_log(world: World, policy: str, seed: int, config: Config) -> PyTree:
    """Parameters of a Q-network whose towers have learned to recommend known items."""
    known = world.known
    items = world.items(policy, slice(known), 0)
    # Inner products, as values are, so that what is learned of the lengths of vectors carries over.
    module = nn.Recommendation(**towers(known, config), normalized=False, temperature=1.0)
    training = SequenceConfig(
        epochs=config.epochs, batch_size=64, history_length=config.history_length, learning_rate=2e-3,
        schedule="cosine", weight_decay=0.01,
    )  # fmt: skip
    sequences = data.sequences(world.log, world.dataset.num_users)
    learned = fit_sequences(module, sequences, items, training, key=jax.random.key(seed)).params
    env = world.environment(items, slice(known), config)
    q_network = nn.DotProductQ(**towers(known, config))
    fresh = jax.jit(q_network.init)(jax.random.key(seed), env.spec.empty_observation((1,)), items)
    return nn.warm_start(fresh, learned)


def schedule(config: Config) -> loop.LoopConfig:
    return loop.LoopConfig(
        steps=config.steps, chunk=config.steps, eval_every=config.steps, users=config.users, eval_users=256,
        eval_steps=20, seeds=1, batch_size=128, learn_start=2, updates=4,
    )  # fmt: skip


def rate_by_tastes(taste: PyTree, observation: Observation, items: Items) -> tuple[Array, catalogue.ItemIndex]:
    """What users like, of the oracle."""
    return observation.context[:, :-1], catalogue.ItemIndex(*taste)


def play(world: World, policy: str, seed: int, config: Config) -> list[dict[str, float]]:
    """What a policy is worth at the start and at the end of each round."""
    found: list[dict[str, float]] = []
    is_oracle = policy == "oracle"
    learned = None if is_oracle else trained_on_the_log(world, policy, seed, config)
    for number in range(1, config.rounds + 1):
        among = world.offer(number)
        items = world.items(policy, among, world.block)
        env = world.environment(items, among, config, told=is_oracle)
        if is_oracle:
            params = world.preference.item_vectors[among], world.preference.item_bias[among]
            agent = agents.fixed_policy(rate_by_tastes)
        else:
            learned = nn.with_new_items(learned, among.stop)
            params = on_offer(learned, among)
            agent = agents.dqn(
                nn.DotProductQ(**towers(items.num_items, config)), fit.adamw(config.learning_rate, max_grad_norm=10.0),
                target_period=20, discount=config.discount, epsilon=0.1,
            )  # fmt: skip
        program = loop.Program(env, agent, schedule(config), rewards.parse("satisfaction"))
        # Users of a round are the same ones for all policies.
        result = loop.run_program(program, jax.random.key(1000 * seed + number), params=params)
        if not is_oracle:
            learned = after_offer(learned, jax.tree.map(lambda leaf: leaf[0], result.state.agent.params), among)
        for at, when in ((0, "start"), (-1, "end")):
            numbers = {name: float(values[at, 0]) for name, values in result.evaluations.items()}
            found.append({"round": number, "when": when, **numbers})
    return found


def on_offer(params: PyTree, among: slice) -> PyTree:
    """The network for some of its items."""
    item = params["params"]["item"]
    table = jnp.concatenate([item["embedding"][among], item["embedding"][-2:]])
    return {"params": params["params"] | {"item": item | {"embedding": table}}}


def after_offer(params: PyTree, learned: PyTree, among: slice) -> PyTree:
    """The network for all items again, with what was learned of some of them."""
    item = learned["params"]["item"]
    table = params["params"]["item"]["embedding"].at[among].set(item["embedding"][:-2])
    return {"params": learned["params"] | {"item": item | {"embedding": table.at[-2:].set(item["embedding"][-2:])}}}


def result(
    dataset: Dataset, preference: Preference, texts: Callable[[], np.ndarray], seed: int, config: Config
) -> dict[str, Any]:
    """What one order of release found, ready for JSON."""
    world = released(dataset, preference, texts(), seed, config)
    best = play(world, "oracle", seed, config)
    rows = {"oracle": best}
    for policy in config.policies:
        rows[policy] = play(world, policy, seed, config)
        for own, its in zip(rows[policy], best, strict=True):
            own["regret"] = its["satisfaction_per_slate"] - own["satisfaction_per_slate"]
    return {
        "data": dataset.name,
        "seed": seed,
        "config": stated(config),
        "known": world.known,
        "block": world.block,
        "rows": rows,
    }


def show(results: list[dict[str, Any]]) -> None:
    """One table a metric, policies by round; and what texts have over the controls."""
    known, block = results[0]["known"], results[0]["block"]
    rounds = sorted({row["round"] for row in results[0]["rows"]["texts"]})
    policies = tuple(results[0]["rows"])
    for metric, heading in METRICS.items():
        title = f"{results[0]['data']}, {known:,} items known, {block:,} released in a round: {heading}"
        table = Table("policy", "", title=title, title_justify="left")
        for number in rounds:
            table.add_column(f"round {number}", justify="right")
        for when in ("start", "end"):
            for policy in policies:
                if metric in results[0]["rows"][policy][0]:
                    table.add_row(policy, when, *map(interval_text, by_round(results, policy, metric, when)))
            for control in policies[2:]:
                own, other = (by_round(results, policy, metric, when) for policy in ("texts", control))
                table.add_row(f"texts less {control}", when, *map(difference_text, own, other))
            table.add_section()
        Console(width=max(100, 40 + 17 * len(rounds))).print(table)


def by_round(results: list[dict[str, Any]], policy: str, metric: str, when: str) -> list[list[float]]:
    """One number a seed, for each round."""
    found = ([row[metric] for row in each["rows"][policy] if row["when"] == when] for each in results)
    return [list(column) for column in zip(*found, strict=True)]


def interval_text(values: list[float]) -> str:
    interval = mean_interval(values)
    return f"{interval.mean:.3f}" + (f" ± {interval.half_width:.3f}" if len(values) > 1 else "")


def difference_text(own: list[float], other: list[float]) -> str:
    if len(own) < 2:
        return f"{own[0] - other[0]:+.3f}"
    interval = paired_difference(own, other)
    return f"{interval.mean:+.3f} ± {interval.half_width:.3f}"


def main(config: Config) -> None:
    dataset = generated() if config.smoke else data.load(config.data)
    preference, report = envs.fit_preference(dataset)
    print(report)
    described = data.item_texts(dataset)

    @functools.cache
    def vectors() -> np.ndarray:
        """Made once, and only where a seed is still to be played."""
        model = tiny(described) if config.smoke else language.load(config.language)
        return language.encode(model, described, cache=config.work / "vectors")

    name = f"{config.data}-{recipe_hash(stated(config))}"
    show([
        kept(config.out / f"{name}-{seed}.json", functools.partial(result, dataset, preference, vectors, seed, config))
        for seed in range(config.seeds)
    ])  # fmt: skip


if __name__ == "__main__":
    small = {
        "policies": ("texts", "ids"), "rounds": 1, "steps": 4, "users": 8, "slate_size": 2, "dim": 8, "text_dim": 4,
        "epochs": 1,
    }  # fmt: skip
    run_study(main, tyro.cli(Config, description=__doc__), **small, history_length=6, seeds=1)
