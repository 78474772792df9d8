"""How often 95 % intervals of off-policy estimates hold what a policy earns in our simulators.

Users of a simulator are served by a logging policy, and another one is evaluated. Both show one item by a softmax of
what a fixed random table says of the items of a user's history; the evaluated one is sharper. What it is truly worth
comes from serving very many users. Every repetition is a log of users of its own: rounds of one slate, or episodes of
``--steps`` slates, discounted. Models of rewards are the mean of each item (rounds) and a fitted Q-function of what is
shown (episodes), so both are wrong.

    python experiments/ope/coverage.py                     # many minutes
    python experiments/ope/coverage.py --only synthetic
    python experiments/ope/coverage.py --smoke             # few users, to check that the script runs
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _results import Row, machine, write_rows

from recjax import envs, loop, ope
from recjax.agents import Action, Agent
from recjax.eval import Interval, mean_interval
from recjax.rewards import parse as parse_reward
from recjax.types import Array, Observation

DISCOUNT, ITEMS = 0.9, 20
LOGGING, EVALUATED = 0.7, 0.25
"""Temperatures of the two policies."""
REWARDS = {"synthetic": "click", "ecommerce": "conversion", "video": "watch_time"}
"""Environments, and what is counted in them."""

BIASED = {"switch_dr", "dr_shrinkage"}


@dataclasses.dataclass(frozen=True)
class Config:
    only: str = ""
    """Environments whose names begin with this; all by default."""
    repetitions: int = 1000
    """Logs of each environment."""
    users: int = 3000
    """Users of each log."""
    truth: int = 2**19
    """Users from whom the true value comes."""
    steps: int = 3
    """Slates of an episode."""
    seed: int = 0
    smoke: bool = False
    """Few of all, to check that the script runs."""
    json: Path | None = None
    """File to which rows of name, value, unit and hardware are written."""


class Log(NamedTuple):
    """What users were shown, leaves ``[T, U]``, and of all items ``[T, U, N]``.

    Attributes:
      reward: what they earned.
      item: what was shown.
      staying: whether the user was still there.
      logging: probabilities of the logging policy.
      policy: probabilities of the evaluated one.
    """

    reward: Array
    item: Array
    staying: Array
    logging: Array
    policy: Array


def log_probabilities(observation: Observation, temperature: float) -> Array:
    """``f32[B, N]`` of a policy."""
    table = jax.random.normal(jax.random.key(3), (ITEMS + 1, ITEMS)).at[ITEMS].set(0.0)
    length = jnp.maximum((observation.history >= 0).sum(1, keepdims=True), 1)
    scores = table[:ITEMS].mean(0) + table[observation.history].sum(1) / jnp.sqrt(length)
    return jax.nn.log_softmax(scores / temperature)


def softmax_policy(temperature: float) -> Agent:
    """An agent that shows one item."""

    def act(key: Array, state: None, observation: Observation, *, explore: bool = True) -> Action:
        logits = log_probabilities(observation, temperature)
        item = jax.random.categorical(key, logits)[:, None]
        return Action(item, jnp.take_along_axis(logits, item, axis=1)[:, 0])

    return Agent(init=lambda *_: None, act=act)


def server(env: envs.Environment, reward: str, temperature: float, steps: int) -> Callable[[Array, int], Log]:
    """A compiled function ``(key, users) -> Log`` of users whom a policy serves."""
    interaction = loop.Interaction(env, softmax_policy(temperature), parse_reward(reward))

    def visit(carry: None, step: Any, staying: Array) -> tuple[None, Log]:
        both = (jnp.exp(log_probabilities(step.observation, each)) for each in (LOGGING, EVALUATED))
        return carry, Log(step.reward.sum(-1), step.slate[:, 0], staying, *both)

    @partial(jax.jit, static_argnums=1)
    def serve(key: Array, users: int) -> Log:
        world_key, arrive_key, act_key, tick_key = jax.random.split(key, 4)
        world = env.world(world_key)
        arrived = interaction.arrive(arrive_key, env.params, world, users)
        keys = jax.random.split(act_key, steps), jax.random.split(tick_key, steps)
        return loop.follow(interaction, None, arrived, world, keys, visit, None, explore=True)[1]

    return serve


def truth(serve: Callable[[Array, int], Log], config: Config) -> float:
    """What a policy earns a user."""
    found, at_once = [], min(config.truth, 2**15)
    for key in jax.random.split(jax.random.key(config.seed + 1), config.truth // at_once):
        reward = serve(key, at_once).reward
        found.append(float((DISCOUNT ** jnp.arange(len(reward)) @ reward).mean()))
    return float(np.mean(found))


def of_rounds(log: Log) -> tuple[ope.Feedback, dict[str, Array]]:
    """Feedback of first slates, and contributions by estimator."""
    item, reward = (np.asarray(part[0]) for part in (log.item, log.reward))
    logging, policy = (np.asarray(part[0], np.float64) for part in (log.logging, log.policy))
    model = ope.fit_item_rewards(reward.astype(float), item, np.zeros_like(item))
    means = np.zeros((len(model.means), ITEMS))
    means[:, : model.means.shape[2]] = model.means[:, 0]
    of = ope.feedback_of_actions(item, reward, logging, policy, predicted=means[model.fold])
    names = ("ips", "snips", "dr", "sndr", "switch_dr", "dr_shrinkage")
    return of, {name: jax.jit(ope.ESTIMATORS[name])(of) for name in names}


def of_episodes(log: Log) -> tuple[ope.Feedback, dict[str, Array]]:
    """Feedback of episodes ``[U, T]``, and contributions by estimator."""
    reward, item, staying, logging, policy = (jnp.swapaxes(part, 0, 1) for part in log)
    shown = jax.nn.one_hot(item, ITEMS)
    after = jnp.concatenate([policy[:, 1:], policy[:, :1]], axis=1)
    goes_on = jnp.concatenate([staying[:, 1:], jnp.zeros_like(staying[:, :1])], axis=1)
    flat = (
        part.reshape(-1, *part.shape[2:]) for part in (shown * staying[..., None], reward, DISCOUNT * goes_on, after)
    )
    q = ope.fitted_q(*flat, sweeps=len(log.reward))
    chosen = (jnp.take_along_axis(of, item[..., None], axis=2)[..., 0] for of in (logging, policy))
    of = ope.feedback(reward, *chosen, valid=staying, predicted=shown @ q, expected=policy @ q)
    estimators = {"tis": ope.tis, "pdis": ope.pdis, "sn_pdis": ope.sn_pdis, "sequential_dr": ope.sequential_dr}
    return of, {name: jax.jit(estimator)(of, DISCOUNT) for name, estimator in estimators.items()}


def intervals(
    serve: Callable[[Array, int], Log], make: Callable[[Log], tuple[ope.Feedback, dict[str, Array]]], config: Config
) -> Iterator[tuple[dict[str, Interval], ope.Support]]:
    """The intervals of each repetition, and the support of its log."""
    for i, key in enumerate(jax.random.split(jax.random.key(config.seed), config.repetitions)):
        of, contributions = make(jax.device_get(serve(key, config.users)))
        weight = of.weight if of.weight.ndim == 1 else of.weight.prod(1)
        drawn = ope.bootstrap_intervals(np.stack([*contributions.values()]), seed=i)
        found = dict(zip(contributions, drawn, strict=True))
        for name in BIASED & set(found):
            found[name] = ope.biased_interval(found[name].mean, found["dr"])
        unbiased = {name: row for name, row in contributions.items() if name not in BIASED}
        yield found | {f"{name}, student": mean_interval(row) for name, row in unbiased.items()}, ope.support(weight)


def main(config: Config) -> None:
    """Serves, estimates and counts."""
    if config.smoke:
        config = dataclasses.replace(config, only="synthetic", repetitions=3, users=200, truth=2**10)
    table = Table(title="Intervals that hold the true value", title_justify="left")
    for heading in ("environment", "estimator", "true value", "holds it", "half width", "effective sample", "Pareto k"):
        table.add_column(heading, justify="left" if heading in ("environment", "estimator") else "right")
    rows, hardware = [], machine()["hardware"]
    for name, reward in REWARDS.items():
        if not name.startswith(config.only):
            continue
        env = envs.environments.make(name, num_items=ITEMS, slate_size=1, history_length=10)
        for kind, make, steps in (("rounds", of_rounds, 1), ("episodes", of_episodes, config.steps)):
            logged, own = (server(env, reward, temperature, steps) for temperature in (LOGGING, EVALUATED))
            value = truth(own, config)
            found = list(intervals(logged, make, config))
            effective = np.mean([each.effective for _, each in found])
            k = np.nanmean([each.pareto_k for _, each in found])
            refused = sum(each.problem is not None for _, each in found)
            for estimator in found[0][0]:
                of = [each[estimator] for each, _ in found]
                share = np.mean([interval.low <= value <= interval.high for interval in of])
                error = math.sqrt(share * (1 - share) / len(of))
                half = np.mean([interval.half_width for interval in of])
                support = f"{effective:,.0f} of {config.users:,}" + (f", {refused} refused" if refused else "")
                cells = f"{value:.4g}", f"{share:.1%} ± {error:.1%}", f"{half:.2g}", support, f"{k:.2f}"
                table.add_row(f"{name}, {kind}", estimator, *cells)
                rows.append(Row(f"coverage/{name}/{kind}/{estimator}", float(share), "", hardware))
    Console(width=140).print(table)
    write_rows(config.json, rows)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
