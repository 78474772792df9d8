"""Where looking ahead pays: what oracles gain by it, and what a learner does.

Users click what attracts them; bait is what attracts without pleasing, and users who are not pleased leave, the sooner
the steeper the leave slope is. In every world the SlateQ of the preset long-term learns twice from the same start, with
γ = 0 and with its own γ, from the same arriving users; two oracles that see users' true taste and bait say how much
there was to gain: the best slate of each step, and the best of a family of plans that put a price on satisfaction.

    python experiments/loop/looking_ahead.py                             # MovieLens-100K, hours on 2 CPU cores
    python experiments/loop/looking_ahead.py --bait 2 --slope 0.2        # one world
    python experiments/loop/looking_ahead.py --bait 2 --slope 0.2 --no-surrogates    # the control
    python experiments/loop/looking_ahead.py --smoke                     # synthetic users, seconds

Prints one line a world as it is finished, and then the table: means over seeds of reward per session, differences
paired by seed with 95 % intervals, headroom and gain in per cent of the myopic optimum and of the learner with γ = 0,
and the difference that the study tells from zero four times in five.
Options of the learner were chosen by loops of other seeds in the world of bait 2 and slope 0.2.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import tyro
from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _results import Row, machine, write_rows

from recjax import envs, study
from recjax.cache import enable_compilation_cache
from recjax.eval import Interval, detectable_difference, paired_difference
from recjax.loop import Program, Result, run_program
from recjax.report import interval_text, rich_table
from recjax.rewards import parse

METRIC = "session_reward"


@dataclasses.dataclass(frozen=True)
class Config:
    bait: tuple[float, ...] = (0.0, 1.0, 2.0)
    """Standard deviation of the bait of an item, in logits of choosing it."""
    slope: tuple[float, ...] = (0.05, 0.2)
    """What leaving grows by per unit of dissatisfaction."""
    data: str = "ml-100k"
    """Named data set whose users are simulated."""
    seeds: int = 10
    """Independent repetitions of each learner."""
    seed: int = 0
    """Of the loops; the fitted users and the first model are the same for all."""
    surrogates: bool = True
    """Learn what follows from the answers that foretell it, as the preset does, or (no) as it comes."""
    json: Path | None = None
    """File to which rows of name, value, unit and hardware are written."""
    smoke: bool = False
    """Few synthetic users and no data: checks that the script runs."""

    def study(self) -> study.StudyConfig:
        """The study that every world is a variation of."""
        chosen = {"data": self.data, "seeds": self.seeds, "eval_every": study.preset("long-term").steps}
        if not self.surrogates:
            chosen |= {"learn.surrogates": []}
        if self.smoke:
            chosen |= {
                "env": "synthetic", "items": 40, "training.epochs": 1, "network.encoder": "mean", "eval_steps": 5,
                "steps": 20, "eval_every": 20, "users": 16, "eval_users": 16, "batch_size": 16,
            }  # fmt: skip
        return study.preset("long-term").with_options(chosen)


class World(NamedTuple):
    """What was found in one world: reward per session of each policy, ``f64[seeds]``."""

    bait: float
    slope: float
    rewards: dict[str, np.ndarray]

    @property
    def headroom(self) -> Interval:
        """What oracles gain by looking ahead."""
        return paired_difference(self.rewards["look_ahead"], self.rewards["myopic"])

    @property
    def gain(self) -> Interval:
        """What the learner gains by looking ahead."""
        return paired_difference(self.rewards["learner"], self.rewards["learner, γ=0"])

    @property
    def detectable(self) -> float:
        """The gain that as many seeds tell from zero four times in five."""
        deviation = np.std(self.rewards["learner"] - self.rewards["learner, γ=0"], ddof=1)
        return detectable_difference(float(deviation), len(self.rewards["learner"]))


def worlds(config: Config) -> Iterator[World]:
    """Runs every world in turn."""
    options = config.study()
    prepared = study.prepare(options)
    learners = {name: study.policies.make(policy, prepared.policies) for name, policy in
                (("learner, γ=0", "myopic"), ("learner", "slate_q"))}  # fmt: skip
    for bait in config.bait:
        for slope in config.slope:
            env = with_response(prepared.env, bait=bait, leave_slope=slope)
            program = Program(env, learners["learner"].agent, options, parse(options.reward))
            runs = {name: follow(program, policy, config) for name, policy in learners.items()}
            rewards = {name: np.asarray(run.final()[METRIC], np.float64) for name, run in runs.items()}
            yield World(bait, slope, rewards | of_oracles(env, options, config))


def with_response(env: envs.Environment, **values: float) -> envs.Environment:
    """The environment with other declared parameters."""
    model = envs.as_arrays(env.params.response_model.replace(**values))
    return env._replace(params=env.params.replace(response_model=model))


def follow(program: Program, policy: study.Policy, config: Config) -> Result:
    """The loop of one policy; all of them meet the same users."""
    key = jax.random.key(config.seed)
    return run_program(program, key, hparams=policy.hparams, params=policy.params)


def of_oracles(env: envs.Environment, options: study.StudyConfig, config: Config) -> dict[str, np.ndarray]:
    """What the oracles earn from the users of the learners' last evaluation."""
    still = dataclasses.replace(options, steps=0, chunk=0, eval_every=0)
    programs: list[Program] = []
    found = {}
    cohort = jax.random.key(config.seed + 10_000)
    for name, each in study.yardsticks(env, parse(options.reward), options.eval_steps, cohort).items():
        agent = each.policy.agent
        if not programs or programs[-1].agent is not agent:  # Both are the same program, usually.
            programs.append(Program(env, agent, still, parse(options.reward)))
        found[name.removeprefix("oracle_")] = np.asarray(follow(programs[-1], each.policy, config).final()[METRIC])
    return found


def table(found: list[World]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows: one world each."""
    policies = ("myopic", "look_ahead", "learner, γ=0", "learner")
    headings = ["bait", "leave slope", *policies, "headroom", "gain", "gain / headroom", "detectable"]
    rows = []
    for world in found:
        headroom, gain = world.headroom, world.gain
        rows.append([
            f"{world.bait:g}", f"{world.slope:g}", *(interval_text(world.rewards[name]) for name in policies),
            percent(headroom, world.rewards["myopic"]), percent(gain, world.rewards["learner, γ=0"]),
            f"{gain.mean / headroom.mean:.0%}" if headroom.low > 0 else "–", f"{world.detectable:.2f}",
        ])  # fmt: skip
    return headings, rows


def percent(difference: Interval, of: np.ndarray) -> str:
    """A difference and the half width of its interval, in per cent."""
    return f"{difference.mean / of.mean():+.1%} ± {difference.half_width / of.mean():.1%}"


def main(config: Config) -> list[World]:
    if config.smoke:
        config = dataclasses.replace(config, bait=config.bait[-1:], slope=config.slope[-1:], seeds=2)
    else:
        enable_compilation_cache()
    found, begun = [], time.perf_counter()
    for world in worlds(config):
        found.append(world)
        write_rows(config.json, [row for each in found for row in as_rows(each)])  # Hours are not lost with the last.
        print(f"bait {world.bait:g}, slope {world.slope:g}: headroom {world.headroom:+.2f}, gain {world.gain:+.2f}"
              f" ({time.perf_counter() - begun:.0f} s so far)", flush=True)  # fmt: skip
    caption = f"Reward per session, mean ± 95 % interval over {config.seeds} seeds; differences are paired by seed."
    Console(width=160).print(rich_table("Looking ahead", *table(found), caption=caption))
    return found


def as_rows(world: World) -> list[Row]:
    """Means, and both differences with their ends."""
    numbers = {name: float(values.mean()) for name, values in world.rewards.items()}
    for name, difference in (("headroom", world.headroom), ("gain", world.gain)):
        numbers |= {name: difference.mean, f"{name}, low": difference.low, f"{name}, high": difference.high}
    prefix = f"looking_ahead/bait {world.bait:g}, slope {world.slope:g}"
    return [Row(f"{prefix}/{name}", value, "reward", machine()["hardware"]) for name, value in numbers.items()]


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
