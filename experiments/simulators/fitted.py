"""Users fitted to a log, one class of model beside another: what they predict, and whether their sessions look real.

Every class is fitted to the same part of the log and asked about the same rest. "gain" is the held-out log-likelihood
beyond item + user bias, in nats per exposure, with a 95 % interval; "calibration" the mean gap between prediction and
outcome; "disagree" the standard deviation over members of an ensemble, on held-out exposures and on users and items
drawn uniformly; "p" that of the two-sample test of simulated against real sessions. Then policies are followed in the
environment of the best class: those of a platform, and oracles.

    python experiments/simulators/fitted.py                                # ml-100k
    python experiments/simulators/fitted.py --data kuairand --columns is_click=CLICK long_view=PLAY
    python experiments/simulators/fitted.py --smoke                        # a generated log, seconds

``--plot calibration.svg`` draws the calibration of every class.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _results import Row, machine, write_rows

from recjax import agents, data, envs
from recjax.data import Dataset, IdMap, Interactions
from recjax.eval import mean_interval
from recjax.loop import episode_runner
from recjax.types import Behaviour


@dataclasses.dataclass(frozen=True)
class Config:
    data: str = "ml-100k"
    """Name of the data set."""
    columns: dict[str, Behaviour] = dataclasses.field(default_factory=dict)
    """Columns of the data set that tell of further behaviours."""
    networks: tuple[str, ...] = ("factors", "mean", "gru")
    """Classes of models."""
    members: int = 3
    """Of each ensemble."""
    epochs: int = 12
    """At most."""
    users: int = 1024
    """Users who are followed in the environment."""
    steps: int = 50
    """Slates after which sessions are cut."""
    pessimism: float | None = None
    """See recjax.envs.fitted."""
    seed: int = 0
    """Of fits, users and chance."""
    plot: Path | None = None
    """File for the plot of calibration."""
    smoke: bool = False
    """A generated log, hardly trained, to check that the script runs."""
    json: Path | None = None
    """File to which rows of name, value, unit and hardware are written."""


def generated() -> Dataset:
    """Users who like one half of some items or the other."""
    rng = np.random.default_rng(0)
    user, item = np.repeat(np.arange(60), 20), rng.integers(0, 40, 1200)
    liked = rng.random(1200) < np.where(user % 2 == item % 2, 0.8, 0.2)
    names = (IdMap(tuple(map(str, range(count)))) for count in (60, 40))
    rating = np.where(liked, 5.0, 1.0).astype(np.float32)
    return Dataset("generated", Interactions(user, item, np.tile(np.arange(20), 60) * 60, rating), *names)


def follow(env: envs.Environment, reward: str, config: Config) -> dict[str, np.ndarray]:
    """Rewards ``f64[U]`` of policies by name; of a family of oracles the best, searched on other users."""
    found = {}
    choices: dict[str, tuple[Any, list[Any]]] = {
        name: (agents.agents.make(name), [None]) for name in ("random", "popularity")
    }
    for name, oracle in env.oracles.items():
        settings = [None] if oracle.settings is None else list(np.asarray(oracle.settings))
        choices[name] = agents.oracle(oracle.choose, settings[0]), settings
    for name, (agent, settings) in choices.items():
        run = episode_runner(env, agent, users=config.users, steps=config.steps, reward=reward)
        start = agent.init(jax.random.key(0), env.spec, env.items)
        states = [start if setting is None else jax.numpy.asarray(setting) for setting in settings]
        keys = jax.random.split(jax.random.key(config.seed))
        worth = [float(run(keys[0], state).reward.mean()) for state in states] if len(states) > 1 else [0.0]
        found[name] = np.asarray(run(keys[1], states[int(np.argmax(worth))]).reward, np.float64)
    return found


def draw(reports: dict[str, envs.UserModelReport], path: Path) -> None:
    """Calibration of every behaviour and class of model."""
    behaviours = [one.name for one in next(iter(reports.values())).behaviours]
    figure = Figure(figsize=(3.2 * len(behaviours), 3.2), layout="constrained")
    for column, axes in enumerate(np.atleast_1d(figure.subplots(1, len(behaviours)))):
        axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
        for name, report in reports.items():
            bins = report.behaviours[column].calibration
            axes.plot([one.predicted for one in bins], [one.observed for one in bins], marker="o", ms=3, label=name)
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="predicted", ylabel="observed", title=behaviours[column])
    axes.legend()
    figure.savefig(path)


def main(config: Config) -> None:
    """Fits, measures and prints."""
    if config.smoke:
        config = dataclasses.replace(config, networks=("factors", "mean"), members=2, epochs=2, users=16, steps=3)
    dataset = generated() if config.smoke else data.load(config.data)
    # A small vector is enough for a generated log.
    width = 4 if config.smoke else 32
    reports, models, rows = {}, {}, []
    table = Table(title=f"Users fitted to {dataset.name}", title_justify="left")
    for heading in ("network", "behaviour", "log-likelihood", "gain", "calibration", "disagree", "sessions p", "s"):
        table.add_column(heading, justify="left" if heading in ("network", "behaviour") else "right")
    for name in config.networks:
        began = time.perf_counter()
        setting = envs.UserModelConfig(
            network=name, members=config.members, width=width, epochs=config.epochs, columns=config.columns
        )
        models[name], report = envs.fit_user_model(dataset, setting, key=jax.random.key(config.seed))
        reports[name] = report
        seconds = time.perf_counter() - began
        for one in report.behaviours:
            table.add_row(
                name, one.name, f"{one.log_likelihood:.4f}", f"{one.gain:+.4f}", f"{one.calibration_error:.3f}",
                f"{one.disagreement:.3f} {one.disagreement_elsewhere:.3f}", f"{report.sessions.test.p_value:.3f}",
                f"{seconds:.0f}",
            )  # fmt: skip
            rows += [
                (f"{name}/{one.name}/log-likelihood", one.log_likelihood, "nat"),
                (f"{name}/{one.name}/gain", one.gain.mean, "nat"),
                (f"{name}/{one.name}/calibration error", one.calibration_error, ""),
                (f"{name}/{one.name}/disagreement", one.disagreement, ""),
                (f"{name}/{one.name}/disagreement elsewhere", one.disagreement_elsewhere, ""),
            ]
        rows += [
            (f"{name}/sessions/p", report.sessions.test.p_value, ""),
            (f"{name}/seconds", seconds, "s"),
            *((f"{name}/sessions/{one.name}/difference", one.difference, "sd") for one in report.sessions.statistics),
        ]
    console = Console(width=160)
    console.print(table)
    for name, report in reports.items():
        console.print(f"{name}: {report.sessions}")
    best = max(reports, key=lambda name: reports[name].log_likelihood)
    setting = envs.UserModelConfig(network=best, width=width, columns=config.columns)
    reward = f"{reports[best].behaviours[0].name}=1"
    env = envs.fitted(
        dataset, user_model=models[best], config=setting, pessimism=config.pessimism, reward=reward,
        max_steps=config.steps,
    )  # fmt: skip
    found = follow(env, reward, config)
    console.print(f"Reward of a user ({reward}) where users are those of {best!r}:")
    for name, values in found.items():
        console.print(f"  {name}: {mean_interval(values).plus_minus()}")
        rows.append((f"{best}/policies/{name}", float(values.mean()), ""))
    if config.plot is not None:
        draw(reports, config.plot)
    hardware = machine()["hardware"]
    write_rows(config.json, [Row(f"fitted/{dataset.name}/{name}", value, unit, hardware) for name, value, unit in rows])


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
