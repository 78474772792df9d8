"""What can be won by looking ahead in each environment, and what there is to win at all.

Every registered environment that has oracles is served by a random policy, by popularity, by the oracle that takes the
best of each step, and by the best of its family of look-ahead oracles. That best is searched on one cohort of users and
reported on another, whom all policies meet with the same random numbers. The last column is what looking ahead brings
in per cent of the myopic reward, with a 95 % interval paired by user: a lower bound of what could be won. Rewards are
sums from arrival to leaving.

    python experiments/simulators/headroom.py                       # all of them: many minutes
    python experiments/simulators/headroom.py --only video --users 8192
    python experiments/simulators/headroom.py --smoke               # few users, small environments
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _results import Row, machine, write_rows

from recjax import agents, data, envs
from recjax.eval import mean_interval, paired_difference
from recjax.loop import episode_runner

MYOPIC, LOOK_AHEAD = "myopic", "look_ahead"


@dataclasses.dataclass(frozen=True)
class Config:
    only: str = ""
    """Environments whose names begin with this; all by default."""
    users: int = 2048
    """Users of each of the two cohorts."""
    steps: int = 100
    """Steps after which users are no longer followed."""
    seed: int = 0
    """Of the first cohort; the second has the next."""
    smoke: bool = False
    """Few users of small environments, to check that the script runs."""
    json: Path | None = None
    """File to which rows of name, value, unit and hardware are written."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """How an environment is measured.

    Attributes:
      reward: as :func:`recjax.rewards.parse` takes it; by default "click", or else the first signal.
      options: of its factory; functions are called when it is made.
      smoke: options of a small one, None where it is left out.
    """

    reward: str | None = None
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    smoke: dict[str, Any] | None = None


# Oracles rate every item for every user, so catalogues are no larger than they must be.
SMALL = {"num_items": 200}
SETTINGS: dict[str, Setting] = {
    "synthetic": Setting(options=SMALL, smoke={"num_items": 20, "slate_size": 2, "history_length": 4}),
    "ecommerce": Setting("revenue", SMALL),
    "music": Setting(options=SMALL),
    "news": Setting(options={"num_items": 2000}),
    "video": Setting("watch_time", SMALL),
    "session": Setting(options=SMALL),
    "logged": Setting(options={"dataset": partial(data.load, "ml-100k")}),
    "coat": Setting("rating=1"),
    "conversational": Setting(smoke={"num_items": 20, "attributes": 2, "history_length": 4}),
}
"""Of environments that are not measured as they come."""


@dataclasses.dataclass(frozen=True)
class Found:
    """What policies earned in one environment: rewards ``f64[U]`` by name, and the share of users who had left."""

    rewards: dict[str, np.ndarray]
    ended: float

    def headroom(self) -> tuple[float, float] | None:
        """What looking ahead brings and the half width of its interval, in per cent of the myopic reward."""
        if not {MYOPIC, LOOK_AHEAD} <= set(self.rewards):
            return None
        gain = paired_difference(self.rewards[LOOK_AHEAD], self.rewards[MYOPIC])
        of = abs(float(self.rewards[MYOPIC].mean())) / 100
        return (gain.mean / of, gain.half_width / of) if of else (math.nan, math.nan)


def measure(env: envs.Environment, reward: str, config: Config) -> Found:
    """All policies on the second cohort."""
    tuning, reported = jax.random.key(config.seed), jax.random.key(config.seed + 1)
    rewards, ended = {}, []
    for name, (run, states) in policies(env, reward, config).items():
        found = [run(tuning, state).reward.mean() for state in states] if len(states) > 1 else [0.0]
        episodes = run(reported, states[int(np.argmax(found))])
        rewards[name] = np.asarray(episodes.reward, np.float64)
        ended.append(float(episodes.ended.mean()))
    return Found(rewards, min(ended))


def policies(env: envs.Environment, reward: str, config: Config) -> dict[str, tuple[Callable, list[Any]]]:
    """Functions ``(key, state) -> Episodes`` by name, and the states among which the best is searched."""

    def follow(agent: agents.Agent) -> Callable:
        return episode_runner(env, agent, users=config.users, steps=config.steps, reward=reward)

    found: dict[str, tuple[Callable, list[Any]]] = {}
    # Where a catalogue is hardly longer than a history, items are shown again.
    fresh = env.spec.num_items >= env.spec.history_length + env.spec.slate_size
    for name in ("random", "popularity") if not env.spec.action_size else ():
        agent = agents.agents.make(name, exclude_history=fresh)
        found[name] = follow(agent), [agent.init(jax.random.key(0), env.spec, env.items)]
    for name, oracle in env.oracles.items():
        settings = oracle.each_setting()
        found[name] = follow(agents.oracle(oracle.choose, settings[0])), settings
    return found


def make(name: str, smoke: bool) -> tuple[envs.Environment | None, str]:
    """An environment, or None and why it is left out."""
    setting = SETTINGS.get(name, Setting())
    if smoke and setting.smoke is None:
        return None, "not in a smoke run"
    factory = envs.environments[name]
    options = setting.smoke if smoke else setting.options
    needed = [
        parameter.name
        for parameter in inspect.signature(factory).parameters.values()
        if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
    ]
    if missing := set(needed) - set(options or {}):
        return None, f"needs {', '.join(sorted(missing))}"
    try:
        env = factory(**{key: value() if callable(value) else value for key, value in (options or {}).items()})
    except (OSError, ValueError) as error:  # its data are not here
        return None, str(error)
    return (env, "") if env.oracles else (None, "has no oracles")


def default_reward(env: envs.Environment) -> str:
    """Clicks, or else the first signal that the environment declares."""
    names = [signal.name for signal in env.spec.signals]
    return "click" if "click" in names else f"{names[0]}=1"


def main(config: Config) -> None:
    """Measures and prints."""
    if config.smoke:
        config = dataclasses.replace(config, users=16, steps=4)
    names = ("random", "popularity", MYOPIC, LOOK_AHEAD)
    table = Table(title="Reward of a user, and what looking ahead brings", title_justify="left")
    for heading in ("environment", "reward", *names, "headroom %", "others"):
        table.add_column(heading, justify="left" if heading in ("environment", "reward") else "right")
    rows, console, left_out = [], Console(width=160), []
    for name in envs.environments:
        if not name.startswith(config.only):
            continue
        env, reason = make(name, config.smoke)
        if env is None:
            left_out.append(f"{name}: {reason}")
            continue
        reward = SETTINGS.get(name, Setting()).reward or default_reward(env)
        found = measure(env, reward, config)
        cells = {key: mean_interval(values).plus_minus() for key, values in found.rewards.items()}
        gain = found.headroom()
        others = ", ".join(f"{key} {cell}" for key, cell in cells.items() if key not in names)
        shown = "" if gain is None else f"{gain[0]:+.1f}±{gain[1]:.1f}"
        mark = "" if found.ended > 0.99 else f" ({found.ended:.0%} followed to the end)"
        table.add_row(name + mark, reward, *(cells.get(key, "") for key in names), shown, others)
        rows += as_rows(name, found)
    console.print(table)
    for line in left_out:
        console.print(f"Left out: {line}")
    write_rows(config.json, rows)


def as_rows(name: str, found: Found) -> list[Row]:
    """Means of all policies, and the headroom."""
    numbers = {f"{policy}/reward": (float(values.mean()), "") for policy, values in found.rewards.items()}
    gain = found.headroom()
    if gain is not None:
        numbers |= {"headroom": (gain[0], "%"), "headroom, half width": (gain[1], "%")}
    hardware = machine()["hardware"]
    return [Row(f"headroom/{name}/{key}", value, unit, hardware) for key, (value, unit) in numbers.items()]


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
