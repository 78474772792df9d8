"""What DDPG, TD3 and SAC earn on VirtualTaobao, whose actions are vectors, beside random vectors and the best oracle.

With "cirs" users leave where a vector is near one of the last four, so a policy must go around; with "session" they
leave after a number of turns of their own, and nothing but clicks counts. All policies of a seed are tested with the
same new users and the same chance. Networks read the user's features, the last answer, and the turn modulo five.

    python experiments/simulators/vectors.py                     # both settings, five seeds: long on two cores
    python experiments/simulators/vectors.py --only session
    python experiments/simulators/vectors.py --smoke             # users of small random networks, few steps
"""

from __future__ import annotations

import dataclasses
import sys
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from _learn_taobao import TURNS, small_networks
from _learners import Learned, Task, in_a_loop, tested, yardsticks
from runner import Options, Study, run

from recjax import agents, envs, loop
from recjax.data import UnavailableError
from recjax.eval import mean_interval
from recjax.types import Array, Items, Observation

SIZE, PERIOD, SCALE = 27, 5, 0.1
"""Numbers of a vector; turns that networks tell apart; by which clicks are multiplied before they are learned from."""

SETTINGS = (("cirs", 0.95), ("session", 0.0))
"""When users leave, and the discount that learners are given."""

ALGORITHMS = ("ddpg", "td3", "sac")
CIRS = 62.79
"""Clicks that the best published policy earns with "cirs", learned from a model of a log."""

HEADINGS = ("setting", "learner", "clicks", "turns", "random", "best oracle")


@dataclasses.dataclass(frozen=True)
class Config(Options):
    seeds: int = 5
    """Independent repetitions of each learner."""
    only: str = ""
    """Settings whose names begin with this; all by default."""
    steps: int = 3000
    """Turns of each of 64 users that are learned from."""
    users: int = 1024
    """New users whom each policy serves in the end."""


def with_turn(observation: Observation) -> Observation:
    """The observation with the turn, the last number of the context, as one of five."""
    context = observation.context
    assert context is not None
    turn = jax.nn.one_hot(context[:, -1].astype(jnp.int32) % PERIOD, PERIOD)
    answer = context[:, -3:-1] / 10
    return dataclasses.replace(observation, context=jnp.concatenate([context[:, :-3], answer, turn], axis=-1))


class Actor(nn.Module):
    """A network of the library that is shown the turn."""

    network: nn.Module

    @nn.compact
    def __call__(self, observation: Observation, items: Items) -> Any:
        return self.network(with_turn(observation), items)


class Critic(nn.Module):
    """Likewise."""

    network: nn.Module

    @nn.compact
    def __call__(self, observation: Observation, vectors: Array, items: Items) -> Array:
        return self.network(with_turn(observation), vectors, items)


def learner(name: str, discount: float) -> agents.Agent:
    """One of the algorithms, with the same networks."""
    widths = (128, 128)
    make = agents.GaussianActor if name == "sac" else agents.VectorActor
    options: dict[str, Any] = {} if name == "sac" else {"noise": 0.3}
    return agents.agents.make(
        name,
        Actor(make(SIZE, widths)),
        Critic(agents.VectorCritic(widths)),
        optax.adam(3e-4),
        optax.adam(1e-3),
        discount=discount,
        **options,
    )


def learn(name: str, discount: float, steps: int, env: envs.Environment, seeds: int, smoke: bool) -> Learned:
    """In a closed loop of 64 users, two updates a turn."""
    config = loop.LoopConfig(
        steps=steps,
        users=4 if smoke else 64,
        seeds=seeds,
        batch_size=16 if smoke else 256,
        replay_capacity=400 if smoke else 2**17,
        learn_start=2,
        updates=2,
        eval_every=max(1, steps // 4),
        eval_steps=TURNS,
        eval_users=4 if smoke else 64,
    )
    return in_a_loop(env, learner(name, discount), config, "clicks", scale=SCALE)


def make(leaving: Any, smoke: bool) -> envs.Environment:
    return envs.virtual_taobao(small_networks() if smoke else None, leaving=leaving, max_steps=TURNS)


def tasks(config: Config) -> list[Task]:
    """All learners in both settings."""
    found = []
    for leaving, discount in SETTINGS:
        for name in ALGORITHMS if leaving.startswith(config.only) else ():
            train = partial(learn, name, discount, config.steps)
            found.append(Task(leaving, name, partial(make, leaving), train, "clicks=1", TURNS, CIRS, "CIRS", cohort=64))
    return found


def measure(task: Task, config: Config) -> dict[str, Any]:
    """Trains and tests; numbers are by number of the seed."""
    env = task.make(config.smoke)
    if config.smoke:
        task = dataclasses.replace(task, longest=5)
        env = env._replace(oracles={name: env.oracles[name] for name in [*env.oracles][:1]})
    learned = task.learn(env, config.seeds, config.smoke)
    found = {task.learner: tested(env, learned, task, config.seeds, config.users)}
    found |= yardsticks(env, task, min(config.users, task.cohort))
    return {
        policy: {name: _numbered(metrics[name]) for name in ("session_reward", "session_length")}
        for policy, metrics in found.items()
    } | {"curve": {str(step): _numbered(values) for step, values in zip(learned.steps, learned.curve, strict=True)}}


def main(study: Study) -> None:
    """Learns, tests and prints."""
    config = study.config
    assert isinstance(config, Config)
    lines = []
    for task in tasks(config)[: 1 if config.smoke else None]:
        condition = {"leaving": task.name, "learner": task.learner, "seeds": config.seeds}
        try:
            result = study.result(lambda task=task: measure(task, config), 0, condition, ["only"])
        except UnavailableError as error:
            print(f"Left out: {task.name}: {error}")
            continue
        lines.append((_cells(task, result.found), [result]))
    study.show("Clicks of new users, 95 % intervals over seeds", HEADINGS, lines, left=2)


def _cells(task: Task, found: dict[str, Any]) -> list[str]:
    """A line of the table."""
    of = lambda policy, name="session_reward": np.array([*found[policy][name].values()])  # noqa: E731
    oracle = max(found.keys() - {task.learner, "random", "curve"}, key=lambda policy: of(policy).mean())
    return [
        task.name,
        task.learner,
        mean_interval(of(task.learner)).plus_minus(),
        f"{of(task.learner, 'session_length').mean():.1f}",
        f"{of('random').mean():.4g}",
        f"{of(oracle).mean():.4g} {oracle}",
    ]


def _numbered(values: np.ndarray) -> dict[str, float]:
    return {str(seed): round(float(value), 3) for seed, value in enumerate(values)}


if __name__ == "__main__":
    run(__file__, __doc__, Config, main, users=4, steps=8)
