"""What could be reached in a study: oracles that see all of a user's state, and what learners reach of it."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np

from recjax.agents import Agent, oracle
from recjax.envs import Environment
from recjax.envs.base import Choose
from recjax.envs.choice.oracles import oracles
from recjax.envs.sims.population import Params
from recjax.eval import Interval, detectable_difference, paired_difference, runs_needed
from recjax.loop import Result, episode_runner
from recjax.rewards import Reward
from recjax.study.policies import Policy
from recjax.types import Array, PyTree

TUNING_USERS = 256
"""Users of the cohort on which the settings of an oracle are compared; results are of others."""

PREFIX = "oracle_"
"""Of the names of oracles among policies."""

MYOPIC, LOOK_AHEAD = "myopic", "look_ahead"
"""The oracles whose distance is the headroom of looking ahead, where an environment has them."""

LEARNERS = (("slate_q", "myopic"), ("dqn", "dqn_myopic"))
"""Policies that look ahead, and the same with a discount of 0."""

METRIC = "session_reward"


class Yardstick(NamedTuple):
    """An oracle as a policy of a study.

    Attributes:
      policy: with the best of its settings.
      description: what it does, and how the setting was found.
    """

    policy: Policy
    description: str


def with_oracles(env: Environment, reward: Reward) -> Environment:
    """The environment with oracles that seek the reward of a study, where its users have the declared dynamics."""
    if not isinstance(env.params, Params):
        return env
    return env._replace(oracles=oracles(env.spec.slate_size, reward))


def yardsticks(env: Environment, reward: Reward, steps: int, key: Array) -> dict[str, Yardstick]:
    """The oracles of an environment, each with the setting that earned most from a cohort of its own.

    Args:
      env: the environment.
      reward: that is to be gained.
      steps: after how many slates users of the cohort are no longer followed.
      key: one typed PRNG key, of that cohort.
    """
    found: dict[str, Yardstick] = {}
    agents_by_choice: dict[Choose, Agent] = {}
    for name, one in env.oracles.items():
        settings, text = one.each_setting(), ""
        agent = agents_by_choice.setdefault(one.choose, oracle(one.choose, settings[0]))
        if len(settings) > 1:
            run = episode_runner(env, agent, users=TUNING_USERS, steps=steps, reward=reward)
            settings.sort(key=lambda setting: -float(np.mean(run(key, setting).reward)))
            shown = ", ".join(f"{name} {float(value):g}" for name, value in _named(settings[0]))
            text = f" Chosen by {TUNING_USERS} users who count for nothing else: {shown}."
        found[PREFIX + name] = Yardstick(
            Policy(agent, hparams=settings[0]), f"Sees all that is hidden: {one.doc}.{text}"
        )
    return found


def _named(setting: PyTree) -> list[tuple[str, Any]]:
    if dataclasses.is_dataclass(setting):
        return [(field.name, getattr(setting, field.name)) for field in dataclasses.fields(setting)]
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(setting)]


def compare_with(runs: dict[str, Result]) -> dict[str, Any] | None:
    """What policies reach of what could be reached: regret, and the share of the way from chance to the reference.

    Returns:
      For ``metrics.json``: ``reference``, the oracle that earned most, and by policy ``regret`` and ``share`` per seed,
      the latter NaN where chance alone reached as much. None without oracles.
    """
    final = {name: run.final()[METRIC] for name, run in runs.items() if METRIC in run.evaluations}
    known = [name for name in final if name.startswith(PREFIX)]
    if not known:
        return None
    reference = max(known, key=lambda name: float(np.mean(final[name])))
    of_policies: dict[str, dict[str, Any]] = {}
    for name, values in final.items():
        of_policies[name] = {"regret": final[reference] - values, "share": None}
        if "random" in final:
            way = final[reference] - final["random"]
            of_policies[name]["share"] = (values - final["random"]) / np.where(way > 0, way, np.nan)
    return {"metric": METRIC, "reference": reference, "policies": of_policies}


def long_term_value(runs: dict[str, Result]) -> dict[str, Any] | None:
    """What looking ahead is worth: a policy minus the same with a discount of 0, and what there was to gain.

    A verdict is given where the study could have seen the gain that is there; else it says what it would take.

    Returns:
      For ``metrics.json``; None where no such pair of policies has run.
    """
    pair = next((pair for pair in LEARNERS if set(pair) <= runs.keys()), None)
    if pair is None:
        return None
    of, minus = (runs[name].final()[METRIC] for name in pair)
    difference = paired_difference(of, minus)
    headroom, best = _headroom(runs)
    spread = float(np.std(of - minus, ddof=1)) if difference.count > 1 else float("nan")
    text = (
        f"{pair[0]} minus the same with discount 0, reward per session: {difference:+.3f} (95 % interval,"
        f" {difference.count} seeds, paired). {_verdict(difference, headroom, best, spread)}"
    )
    found = {"metric": METRIC, "of": pair[0], "minus": pair[1], "per_seed": of - minus, "mean": difference.mean}
    found |= {"low": difference.low, "high": difference.high, "text": text}
    if headroom is not None:
        found["headroom"] = {"mean": headroom.mean, "low": headroom.low, "high": headroom.high, "of": best}
    return found


def _headroom(runs: dict[str, Result]) -> tuple[Interval | None, float]:
    """What the oracle that looks ahead earns beyond the one that does not, and what the latter earns."""
    pair = PREFIX + LOOK_AHEAD, PREFIX + MYOPIC
    if not set(pair) <= runs.keys():
        return None, float("nan")
    ahead, myopic = (runs[name].final()[METRIC] for name in pair)
    return paired_difference(ahead, myopic), float(np.mean(myopic))


def _verdict(difference: Interval, headroom: Interval | None, best: float, spread: float) -> str:
    if difference.count < 2:
        return "One seed has no interval; run several."
    seen = detectable_difference(spread, difference.count)
    there = ""
    if headroom is not None:
        there = (
            f"Oracles gain {headroom:+.3f} ({headroom.mean / best:+.1%}) by looking ahead, a lower bound of what there"
            f" is; this study tells {seen:.3f} from zero four times in five."
        )
        if headroom.mean < seen:
            needed = runs_needed(headroom.mean, spread)
            enough = "No number of seeds would do" if needed is None else f"It would take about {needed:,} seeds"
            return f"{there} So it has no verdict on looking ahead. {enough}."
    if difference.low > 0:
        said = "Looking ahead paid: the interval lies above zero."
        if headroom is not None:
            said += f" It reached {difference.mean / headroom.mean:.0%} of what oracles gain by it."
    elif difference.high < 0:
        said = "Looking ahead cost reward: the interval lies below zero."
    else:
        said = "Whether looking ahead paid cannot be told: the interval holds zero."
    return f"{there} {said}".strip()
