"""The regret of bandits on problems whose best items are known.

Every seed is a problem of its own, and all policies meet the same problems and the same chance. Regret is what the
items that were shown earn less, in expectation, than the best ones: exact, and no estimate. Every bandit stands beside
ε-greedy with the same regression, which differs in how it explores alone; the difference is paired by seed. The
exponent is the slope of log regret over log steps from a tenth of the run on: 1 for a policy that never stops erring,
0.5 or less for one whose regret grows as the root of the steps or slower. Intervals are 95 % over seeds.

    python experiments/simulators/bandits.py                      # all problems: some minutes on two cores
    python experiments/simulators/bandits.py --only linear        # problems whose names begin so
    python experiments/simulators/bandits.py --smoke              # few steps, to check that the script runs
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _results import Result
from runner import Options, Study, run

from recjax import agents, envs, loop, rewards, testing
from recjax.agents import Agent, Linear, Means, Regression
from recjax.eval import mean_interval, paired_difference, signal_metrics

POINTS = 20
"""Of a curve of regret."""
RANDOM = "random"
HEADINGS = ("problem", "regression", "rule", "regret", "less than ε-greedy", "exponent", "µs a step of all seeds")


@dataclasses.dataclass(frozen=True)
class Config(Options):
    seeds: int = 10
    """Problems of each kind."""
    steps: int = 20_000
    """Slates that each user is shown."""
    users: int = 1
    """Users of a step, who act on what was known before it."""
    only: str = ""
    """Problems whose names begin with this; all by default."""


Rules = dict[str, Callable[[Regression], Agent]]
"""By name, ``(regression) -> Agent``."""


@dataclasses.dataclass(frozen=True)
class Problem:
    """What is to be found, and who looks for it.

    Attributes:
      name: of the problem.
      make: ``() -> Environment``.
      reward: as :func:`recjax.rewards.parse` takes it.
      regressions: by name, ``() -> Regression`` and the rules that explore with it.
    """

    name: str
    make: Callable[[], envs.Environment]
    reward: str
    regressions: dict[str, tuple[Callable[[], Regression], Rules]]


def kind(observation: Any) -> jax.Array:
    return observation.context.argmax(-1)


ITEMS, KINDS, NOISE = 100, 5, 0.3
EPSILON = "ε-greedy"


def epsilon_greedy(regression: Regression) -> Agent:
    return agents.epsilon_greedy_bandit(regression, policy=agents.SlatePolicy(epsilon=0.1, exclude_history=False))


def by_kind() -> Regression:
    return Linear(models=agents.user_models(kind, KINDS))


def neural() -> Regression:
    return agents.NeuralLinear(agents.MLPFeatures(agents.item_features, (32, 16)), optax.adam(3e-3))


BY_MODEL = {
    EPSILON: epsilon_greedy,
    "UCB": lambda regression: agents.ucb(regression, exclude_history=False),
    "Thompson": lambda regression: agents.thompson(regression, width=NOISE, exclude_history=False),
    "SquareCB": lambda regression: agents.square_cb(regression, exclude_history=False),
}
BY_ITEM = {
    EPSILON: epsilon_greedy,
    "UCB": lambda regression: agents.ucb(regression, exclude_history=False),
    "SquareCB": lambda regression: agents.square_cb(regression, exclude_history=False),
}
OF_A_NETWORK = {rule: BY_MODEL[rule] for rule in (EPSILON, "Thompson")}
OF_KINDS = {rule: BY_MODEL[rule] for rule in (EPSILON, "UCB")}
PROBLEMS = (
    Problem(
        "linear, one kind of users",
        lambda: testing.linear_bandit(ITEMS, 10, noise=NOISE),
        "earned=1",
        {"linear": (Linear, BY_MODEL), "neural-linear": (neural, OF_A_NETWORK)},
    ),
    Problem("clicks on ten items", testing.bernoulli_bandit, "click", {"means": (Means, BY_ITEM)}),
    Problem(
        "linear, five kinds of users",
        lambda: testing.linear_bandit(ITEMS, 5, kinds=KINDS, noise=NOISE),
        "earned=1",
        {
            "linear, one for all": (Linear, OF_KINDS),
            "linear, one for each kind": (by_kind, OF_KINDS),
        },
    ),
)


def policies(problem: Problem) -> list[tuple[str, str, Callable[[], Agent]]]:
    """Regression, rule and how to make the policy; at last the random one."""
    found: list[tuple[str, str, Callable[[], Agent]]] = [
        (regression, rule, lambda make=make, explore=explore: explore(make()))
        for regression, (make, rules) in problem.regressions.items()
        for rule, explore in rules.items()
    ]
    return [*found, ("", RANDOM, lambda: agents.random(exclude_history=False))]


def measure(problem: Problem, make: Callable[[], Agent], config: Config) -> dict[str, Any]:
    """Regret up to some steps, by number of the seed."""
    env, every = problem.make(), max(1, config.steps // POINTS)
    schedule = loop.LoopConfig(
        steps=every * POINTS,
        users=config.users,
        seeds=config.seeds,
        chunk=every,
        eval_every=every * POINTS,
        replay_capacity=config.users,
        learn_start=0,
    )
    metrics = [signal_metrics(env.spec.signals)]
    program = loop.Program(env, make(), schedule, rewards.parse(problem.reward), metrics)
    state, found, seconds = program.init(jax.random.key(0)), [], 0.0
    for chunk in range(POINTS):
        begun = time.perf_counter()
        state, chunk_metrics = program.chunk(state)
        found.append(np.asarray(chunk_metrics["regret_per_slot"], np.float64) * every * config.users)
        # The first waits for the compiler.
        seconds += time.perf_counter() - begun if chunk else 0.0
    regret, shown = np.cumsum(found, axis=0), every * np.arange(1, POINTS + 1)
    return {
        "curve": {str(step): _numbered(values) for step, values in zip(shown, regret, strict=True)},
        "exponent": _numbered(exponents(shown, regret)),
        "seconds": seconds,
    }


def exponents(steps: np.ndarray, regret: np.ndarray) -> np.ndarray:
    """The slope of log regret ``[E, seeds]`` over log steps, from a tenth of the run on."""
    late = steps >= steps[-1] / 10
    return np.polyfit(np.log(steps[late]), np.log(np.maximum(regret[late], 1e-9)), 1)[0]


def main(study: Study) -> None:
    """Runs and prints."""
    config = study.config
    assert isinstance(config, Config)
    lines: list[Any] = []
    problems = PROBLEMS[1:2] if config.smoke else PROBLEMS
    for problem in (problem for problem in problems if problem.name.startswith(config.only)):
        results = {}
        for regression, rule, make in policies(problem):
            condition = {"problem": problem.name, "regression": regression, "rule": rule, "seeds": config.seeds}
            compute = lambda problem=problem, make=make: measure(problem, make, config)  # noqa: E731
            results[regression, rule] = study.result(compute, 0, condition, ["only"])
        lines += [(_cells(problem, *names, results), [result]) for names, result in results.items()]
        lines.append(None)
    study.show(f"Regret after {config.steps:,} steps of {config.users} users", HEADINGS, lines[:-1], left=3)


def _cells(problem: Problem, regression: str, rule: str, results: dict[tuple[str, str], Result]) -> list[str]:
    """A line of the table."""
    own, less = results[regression, rule], ""
    shown = [int(step) for step in own.found["curve"]]
    if (regression, EPSILON) in results and rule != EPSILON:
        less = paired_difference(_final(results[regression, EPSILON]), _final(own)).plus_minus()
    return [
        problem.name,
        regression,
        rule,
        mean_interval(_final(own)).plus_minus(),
        less,
        mean_interval([*own.found["exponent"].values()]).plus_minus(),
        f"{own.found['seconds'] / (max(shown) - min(shown)) * 1e6:.0f}",
    ]


def _final(result: Result) -> np.ndarray:
    """Regret in the end, ``[seeds]``."""
    curve = result.found["curve"]
    return np.array([*curve[max(curve, key=int)].values()])


def _numbered(values: np.ndarray) -> dict[str, float]:
    """One number a seed, by its number."""
    return {str(seed): round(float(value), 3) for seed, value in enumerate(values)}


if __name__ == "__main__":
    run(__file__, __doc__, Config, main, steps=40)
