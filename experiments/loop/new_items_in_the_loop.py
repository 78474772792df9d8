"""What a pretrained language model adds in the closed loop, where half of what can be shown is always new.

    python experiments/loop/new_items_in_the_loop.py              # MovieLens-100K, 10 seeds
    python experiments/loop/new_items_in_the_loop.py --smoke      # generated users, tiny language model, seconds

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
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _generated import ring
from _new_items import New, NewConfig, Problem, problem, tiny
from _results import Result
from runner import Study, run

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


RELEASED = New(item_share=0.5, rounds=5)


@dataclasses.dataclass(frozen=True)
class Config(NewConfig):
    new: New = RELEASED
    """Which items are released, and in how many rounds."""
    data: str = "ml-100k"
    """Named data set whose items have titles, genres and ratings."""
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


@dataclasses.dataclass(frozen=True)
class World:
    """One order of release.

    Attributes:
      of: which items are known and which are released, and when.
      preference: who likes what.
      log: the events of the known items.
      vectors: of each policy's items, or None.
    """

    of: Problem
    preference: Preference
    log: data.Interactions
    vectors: dict[str, np.ndarray | None]

    def offer(self, number: int) -> slice:
        """What can be shown in a round, the newly released items last; rounds count from 1."""
        until = self.of.num_known + number * self.of.per_round
        return slice(until - 2 * self.of.per_round, until)

    def items(self, policy: str, among: slice, new: int) -> Items:
        """What a policy knows of some items, of which the last are new."""
        counts = np.bincount(self.log.item, minlength=self.of.dataset.num_items)[among]
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
            dataclasses.replace(
                self.of.dataset, interactions=self.log, extras={}, context=context, context_names=names
            ),
            np.arange(self.of.dataset.num_items)[among],
        )
        env = envs.logged(
            dataset, preference=on_offer, slate_size=config.slate_size, history_length=config.history_length
        )
        return env._replace(items=items)


def rated(dataset: Dataset) -> Dataset:
    """A log with ratings: users rate the items of every third kind high."""
    log = dataset.interactions
    rating = np.where((log.user + log.item) % 3 == 0, 5.0, 2.0).astype(np.float32)
    return dataclasses.replace(dataset, interactions=dataclasses.replace(log, rating=rating))


def released(dataset: Dataset, preference: Preference, texts: np.ndarray, seed: int, config: Config) -> World:
    """Draws the order in which items are known and released."""
    rng = np.random.default_rng(seed)
    of = problem(dataset, rng, config.new, config.history_length)
    order, log = of.order, of.dataset.interactions
    noise = rng.normal(size=texts.shape).astype(np.float32)
    white = {
        name: of.whitened(vectors, config.text_dim)(vectors)
        for name, vectors in (("texts", texts[order]), ("random vectors", noise))
    }
    tastes = dataclasses.replace(
        preference, item_vectors=preference.item_vectors[order], item_bias=preference.item_bias[order]
    )
    return World(of, tastes, log.take(log.item < of.num_known), white)


def towers(num_items: int, config: Config) -> dict[str, Any]:
    """What the recommender and the Q-network have in common."""
    encoder = functools.partial(nn.SelfAttentionEncoder, num_blocks=1, num_heads=1, norm="query", expansion=1)
    item = nn.ItemTower(num_items, config.dim, fusion="residual", id_dropout=config.id_dropout, initial_norm=0.2)
    return {"item": item, "user": nn.UserTower(config.dim, encoder, project=False)}


def trained_on_the_log(world: World, policy: str, seed: int, config: Config) -> PyTree:
    """Parameters of a Q-network whose towers have learned to recommend known items."""
    known = world.of.num_known
    items = world.items(policy, slice(known), 0)
    # Inner products, as values are, so that what is learned of the lengths of vectors carries over.
    module = nn.Recommendation(**towers(known, config), normalized=False, temperature=1.0)
    training = SequenceConfig(
        epochs=config.epochs, batch_size=64, history_length=config.history_length, learning_rate=2e-3,
        schedule="cosine", weight_decay=0.01,
    )  # fmt: skip
    sequences = data.sequences(world.log, world.of.dataset.num_users)
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


def play(world: World, policy: str, seed: int, config: Config) -> dict[str, dict[str, float]]:
    """What a policy is worth, by ``at(round, "start")`` and ``at(round, "end")``."""
    found: dict[str, dict[str, float]] = {}
    is_oracle = policy == "oracle"
    learned = None if is_oracle else trained_on_the_log(world, policy, seed, config)
    for number in range(1, config.new.rounds + 1):
        among = world.offer(number)
        items = world.items(policy, among, world.of.per_round)
        env = world.environment(items, among, config, told=is_oracle)
        if is_oracle:
            params = world.preference.item_vectors[among], world.preference.item_bias[among]
            agent = agents.fixed_policy(rate_by_tastes)
        else:
            learned = nn.with_new_items(learned, among.stop)
            params = on_offer(learned, among)
            agent = agents.dqn(
                nn.DotProductQ(**towers(items.num_items, config)), fit.adamw(config.learning_rate, max_grad_norm=10.0),
                target=agents.TargetNetwork(period=20), discount=config.discount,
                policy=agents.SlatePolicy(epsilon=0.1),
            )  # fmt: skip
        program = loop.Program(env, agent, schedule(config), rewards.parse("satisfaction"))
        # Users of a round are the same ones for all policies.
        result = loop.run_program(program, jax.random.key(1000 * seed + number), params=params)
        if not is_oracle:
            learned = after_offer(learned, jax.tree.map(lambda leaf: leaf[0], result.state.agent.params), among)
        for row, when in ((0, "start"), (-1, "end")):
            numbers = result.evaluations
            found[at(number, when)] = {name: float(numbers[name][row, 0]) for name in METRICS if name in numbers}
    return found


def at(number: int, when: str) -> str:
    """The name of a moment."""
    return f"round {number}, {when}"


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
        for moment, own in rows[policy].items():
            own["regret"] = best[moment]["satisfaction_per_slate"] - own["satisfaction_per_slate"]
    return {"known": world.of.num_known, "block": world.of.per_round, "rows": rows}


def show(study: Study, results: list[Result]) -> None:
    """One table a metric, policies by round; and what texts have over the controls."""
    first = results[0].found
    rounds, policies = range(1, study.config.new.rounds + 1), tuple(first["rows"])
    for metric, heading in METRICS.items():
        lines: list[Any] = []
        for when in ("start", "end"):
            for policy in policies:
                if metric in first["rows"][policy][at(1, when)]:
                    values = by_round(results, policy, metric, when)
                    lines.append(([policy, when, *map(interval_text, values)], results))
            for control in policies[2:]:
                own, other = (by_round(results, policy, metric, when) for policy in ("texts", control))
                lines.append(([f"texts less {control}", when, *map(difference_text, own, other)], results))
            lines.append(None)
        known = f"{first['known']:,} items known, {first['block']:,} released in a round"
        headings = ["policy", "", *(f"round {number}" for number in rounds)]
        study.show(f"{study.config.data}, {known}: {heading}", headings, lines, left=2)


def by_round(results: list[Result], policy: str, metric: str, when: str) -> list[list[float]]:
    """One number a seed, for each round."""
    rounds = range(1, len(results[0].found["rows"][policy]) // 2 + 1)
    return [[each.found["rows"][policy][at(number, when)][metric] for each in results] for number in rounds]


def interval_text(values: list[float]) -> str:
    interval = mean_interval(values)
    return f"{interval.mean:.3f}" + (f" ± {interval.half_width:.3f}" if len(values) > 1 else "")


def difference_text(own: list[float], other: list[float]) -> str:
    if len(own) < 2:
        return f"{own[0] - other[0]:+.3f}"
    interval = paired_difference(own, other)
    return f"{interval.mean:+.3f} ± {interval.half_width:.3f}"


def main(study: Study) -> None:
    config: Any = study.config
    dataset = rated(ring()) if config.smoke else data.load(config.data)
    preference, report = envs.fit_preference(dataset)
    print(report)
    described = data.item_texts(dataset)

    @functools.cache
    def vectors() -> np.ndarray:
        """Made once, and only where a seed is still to be played."""
        model = tiny(described) if config.smoke else language.load(config.language)
        return language.encode(model, described, cache=config.work / "vectors")

    show(study, study.grid([{}], lambda _, seed: result(dataset, preference, vectors, seed, config)))


if __name__ == "__main__":
    run(
        __file__, __doc__, Config, main,
        policies=("texts", "ids"), new=New(item_share=0.5, rounds=1), steps=4, users=8, slate_size=2, dim=8, text_dim=4,
        epochs=1, history_length=6,
    )  # fmt: skip
