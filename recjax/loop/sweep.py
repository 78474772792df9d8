"""Sweeps: a grid of hyper-parameters and environments, side by side, with seeds that choose and seeds that judge."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from recjax.agents.base import Agent
from recjax.agents.tuned import tuned
from recjax.envs.base import Environment
from recjax.eval import Accumulator, Interval, describe, mean_interval
from recjax.fit import Progress
from recjax.loop.config import LoopConfig
from recjax.loop.program import Program, code_of
from recjax.loop.run import run_program
from recjax.rewards import Reward
from recjax.rewards import parse as parse_reward
from recjax.types import Array


class Best(NamedTuple):
    """The setting that was chosen in an environment.

    Attributes:
      setting: value by name.
      tuning: its mean over the seeds that chose it, which flatters it, with a 95 % interval.
      test: over the other seeds, which had no say.
    """

    setting: dict[str, Any]
    tuning: Interval
    test: Interval


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What a sweep has found.

    Attributes:
      settings: what was tried in every environment, value by name.
      final: by name of the environment, the last evaluation: metric name to ``float[settings, seeds]``. Seeds of a
        number meet the same users and the same chance under every setting, so differences are paired by seed.
      tuning_seeds: how many of the seeds, the first ones, choose.
    """

    settings: tuple[dict[str, Any], ...]
    final: dict[str, dict[str, np.ndarray]]
    tuning_seeds: int

    def best(self, metric: str) -> dict[str, Best]:
        """By name of the environment, the setting with the best mean over tuning seeds, and what it is on test seeds.

        Args:
          metric: name of a metric.

        Raises:
          ValueError: there is no such metric, or no setting has a value of it.
        """
        sign, found = -1.0 if describe(metric).better == "lower" else 1.0, {}
        for name, metrics in self.final.items():
            if metric not in metrics:
                raise ValueError(f"There is no metric {metric!r}; there are {', '.join(sorted(metrics))}.")
            values, tuning = metrics[metric], slice(self.tuning_seeds)
            intervals = [mean_interval(row[tuning]) for row in values]
            means = sign * np.array([interval.mean for interval in intervals])
            if np.isnan(means).all():
                raise ValueError(f"No setting has a value of {metric} in {name!r}.")
            row = int(np.nanargmax(means))
            found[name] = Best(self.settings[row], intervals[row], mean_interval(values[row][self.tuning_seeds :]))
        return found


def sweep(
    env: Environment | Mapping[str, Environment],
    make: Callable[..., Agent],
    grid: Mapping[str, Sequence[Any]],
    config: LoopConfig,
    *,
    key: Array,
    test_seeds: int,
    shapes: Sequence[str] = (),
    reward: Reward | str = "click",
    metrics: Sequence[Accumulator] | None = None,
    progress: Progress | None = None,
) -> Sweep:
    """Every combination of hyper-parameters in every environment, all settings and seeds in one compiled program.

    Settings and seeds are mapped with ``jax.vmap``. Environments that differ in ``params`` alone, such as
    ``env._replace(params=env.params.replace(...))``, follow one another through the same compiled program; others have
    programs of their own. Which setting is best is for tuning seeds to say and how good it is for test seeds
    (:meth:`Sweep.best`): the best of many means over the same seeds is too good.

    Args:
      env: the environment, or several by name.
      make: makes the agent, of some names of the grid; the others are hyper-parameters that the agent reads from its
        state, such as ``discount``. See :func:`recjax.agents.tuned`.
      grid: values by name.
      config: how long and how wide; ``config.seeds`` tuning seeds.
      key: one typed PRNG key; the whole sweep follows from it.
      test_seeds: how many more seeds there are.
      shapes: names whose values are no numbers that may be traced, because shapes or the agent's code follow from them
        (``n_step``, widths, names of losses). Each combination of these is a program of its own.
      reward: function of the response, or a name as :func:`recjax.rewards.parse` takes it.
      metrics: what is accumulated; :func:`recjax.eval.default_metrics` unless given.
      progress: where to show progress.

    Raises:
      ValueError: the grid is empty, a value is refused by ``make`` or is no number, there is no test seed, or the
        state of all settings and seeds does not fit into memory.
      Diverged: a reward or a metric of learning of any setting became infinite or NaN.
    """
    if test_seeds < 1:
        raise ValueError(f"test_seeds is {test_seeds}; it must be at least 1.")
    named = {"env": env} if isinstance(env, Environment) else dict(env)
    settings = _settings(grid, make, shapes)
    reward = parse_reward(reward) if isinstance(reward, str) else reward
    wanted = config.seeds + test_seeds
    final: dict[str, dict[str, np.ndarray]] = {name: {} for name in named}
    for agent, rows in _agents(settings, make, shapes):
        wide = dataclasses.replace(config, seeds=len(rows) * wanted)
        build = partial(Program, agent=agent, config=wide, reward=reward, metrics=metrics, groups=len(rows))
        hparams = {
            name: jnp.repeat(jnp.asarray([settings[row][name] for row in rows]), wanted) for name in agent.hparams
        }
        for name, program in _programs(named, build):
            run = run_program(program, key, hparams=hparams, per_seed_hparams=True, progress=progress, name=name)
            for metric, values in run.final().items():
                whole = final[name].setdefault(metric, np.full((len(settings), wanted), np.nan))
                whole[rows] = values.reshape(len(rows), wanted)
    return Sweep(tuple(settings), final, config.seeds)


def _settings(
    grid: Mapping[str, Sequence[Any]], make: Callable[..., Agent], shapes: Sequence[str]
) -> list[dict[str, Any]]:
    """Every combination, each of which an agent was made of to see that it can be."""
    for name in shapes:
        if name not in grid:
            raise ValueError(f"shapes names {name!r}, which is not in the grid ({', '.join(grid) or 'empty'}).")
    for name, values in grid.items():
        if not len(values):
            raise ValueError(f"The grid has no value of {name}.")
        for value in () if name in shapes else values:
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"{name} is {value!r}, which is no number; name it in shapes=({name!r},).")
    settings = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    for setting in settings:
        _tuned(setting, make, shapes)
    return settings


def _tuned(setting: dict[str, Any], make: Callable[..., Agent], shapes: Sequence[str]) -> Agent:
    fixed = {name: setting[name] for name in shapes}
    numbers = {name: value for name, value in setting.items() if name not in fixed}
    return tuned(partial(make, **fixed) if fixed else make, **numbers)


def _agents(
    settings: list[dict[str, Any]], make: Callable[..., Agent], shapes: Sequence[str]
) -> Iterator[tuple[Agent, list[int]]]:
    """An agent for each combination of ``shapes``, and the settings that it stands for."""
    groups: dict[tuple, list[int]] = {}
    for row, setting in enumerate(settings):
        groups.setdefault(tuple(setting[name] for name in shapes), []).append(row)
    for rows in groups.values():
        yield _tuned(settings[rows[0]], make, shapes), rows


def _programs(
    environments: Mapping[str, Environment], build: Callable[[Environment], Program]
) -> Iterator[tuple[str, Program]]:
    """A program for each environment; those of environments that differ in params alone share what is compiled."""
    built: list[Program] = []
    for name, env in environments.items():
        for program in built:
            if code_of(program.env) == code_of(env):
                yield name, program.elsewhere(env)
                break
        else:
            built.append(build(env))
            yield name, built[-1]
