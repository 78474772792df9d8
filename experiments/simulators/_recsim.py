"""Numbers of RecSim's three environments: those measured elsewhere, and our own of the same code.

Our own are of google-research/recsim at 55e50e4, by ``_recsim_original.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from _anchors import Anchor

from recjax import agents, envs, loop
from recjax.loop import Episodes
from recjax.response import Response
from recjax.rewards import parse

EPISODES = 4096
ELSEWHERE = "RecSim, measured elsewhere"
CASCADE = envs.exponential_cascade(attention=0.65, scaling=0.05)
"""With the numbers that RecSim's users come with."""

Measure = Callable[[int, int], np.ndarray]


def clicked_quality(response: Response) -> jax.Array:
    """Of each slot."""
    return response["click"] * response["quality"]


class Cohort(NamedTuple):
    """Users who are followed to their end.

    Attributes:
      simulator: its registered name.
      policy: "random" or the name of an oracle.
      steps: at most.
      reward: a name of :func:`recjax.rewards.parse`, or a function of the response.
      price: the setting of an oracle that has settings.
      options: of the simulator.
    """

    simulator: str
    policy: str
    steps: int
    reward: Any
    price: float = 0.0
    options: tuple[tuple[str, Any], ...] = ()


@cache
def runner(cohort: Cohort, users: int) -> Callable[[int, jax.Array], Episodes]:
    """``(seed, price) -> Episodes`` of so many users, compiled once for all prices."""
    env = envs.environments.make(cohort.simulator, **dict(cohort.options))
    agent = agents.random(exclude_history=False)
    if cohort.policy != "random":
        oracle = env.oracles[cohort.policy]
        agent = agents.oracle(oracle.choose, None if oracle.settings is None else jnp.float32(0.0))
    reward = parse(cohort.reward) if isinstance(cohort.reward, str) else cohort.reward
    run = loop.episode_runner(env, agent, users=users, steps=cohort.steps, reward=reward)

    def follow(seed: int, price: jax.Array) -> Episodes:
        hparams = None if agent.hparams is None else price
        return run(jax.random.key(seed), agent.init(jax.random.key(0), env.spec, env.items, hparams=hparams))

    return follow


@cache
def episodes(cohort: Cohort, users: int, seed: int) -> Episodes:
    """What became of them."""
    return runner(cohort._replace(price=0.0), users)(seed, jnp.float32(cohort.price))


def returns(cohort: Cohort, divisor: float = 1.0) -> Measure:
    """Sums of rewards."""
    return lambda users, seed: np.asarray(episodes(cohort, users, seed).reward, float) / divisor


def lengths(cohort: Cohort) -> Measure:
    """Slates until they left."""
    return lambda users, seed: np.asarray(episodes(cohort, users, seed).length, float)


def ratios(above: Cohort, below: Cohort) -> Measure:
    """Numbers whose mean is the ratio of two sums over all users, and whose spread tells its standard error."""

    def measure(users: int, seed: int) -> np.ndarray:
        one, other = (returns(cohort)(users, seed) for cohort in (above, below))
        ratio = one.sum() / other.sum()
        return ratio + (one - ratio * other) / other.mean()

    return measure


def _ours(sessions: int) -> str:
    return f"RecSim, {sessions:,} sessions of ours"


def _evolution() -> tuple[Anchor, ...]:
    def cohort(policy: str, reward: Any = "watch_time", price: float = 0.0, **options: Any) -> Cohort:
        return Cohort("interest_evolution", policy, 400, reward, price, (("faithful", True), *options.items()))

    def anchor(setting: str, quantity: str, value: float, error: float, source: str, measure: Measure) -> Anchor:
        where = f"k=3, m=10, {setting}"
        return Anchor("interest_evolution", where, quantity, value, error, source, measure, EPISODES)

    uniform, quality = cohort("random"), ratios(cohort("random", clicked_quality), cohort("random", "click"))
    prices = {1.0: 276.2, 1.2: 280.6, 1.35: 281.3, 1.45: 280.8, 1.6: 280.1, 2.0: 275.9}
    return (
        anchor("random", "watch time", 160.3, 0.3, ELSEWHERE, returns(uniform)),
        anchor("random", "watch time", 160.03, 0.37, _ours(1000), returns(uniform)),
        anchor("random", "slates", 71.44, 0.30, _ours(1000), lengths(uniform)),
        anchor("random", "quality of a click", -0.5980, 0.0105, _ours(1000), quality),
        anchor("myopic", "watch time", 168.1, 0.6, ELSEWHERE, returns(cohort("myopic"))),
        *(
            anchor(f"ratio, price {p}", "watch time", value, 1.2, ELSEWHERE, returns(cohort("look_ahead", price=p)))
            for p, value in prices.items()
        ),
        anchor("cascade, random", "watch time", 93.0, 0.75, _ours(250), returns(cohort("random", choice=CASCADE))),
        anchor("cascade, myopic", "watch time", 117.0, 1.10, _ours(200), returns(cohort("myopic", choice=CASCADE))),
    )


def _exploration() -> tuple[Anchor, ...]:
    measure = returns(Cohort("interest_exploration", "random", 100, "click"), divisor=100.0)
    # The error of three users is a third of the variance between users.
    found = ((0.236, 0.02, "RecSim, 3 users, elsewhere"), (0.2334, 0.0026, _ours(400)))
    return tuple(
        Anchor("interest_exploration", "k=2, m=5, random", "clicks a slate", *numbers, measure, EPISODES)
        for numbers in found
    )


def _satisfaction() -> tuple[Anchor, ...]:
    def anchor(sensitivity: float, setting: str, policy: str, value: float, error: float, **options: Any) -> Anchor:
        chosen = (("faithful", True), ("sensitivity", sensitivity), *options.items())
        cohort = Cohort("long_term_satisfaction", policy, 60, "engagement=1", 0.0, chosen)
        source = _ours(600 if options else 1000)
        where = f"sensitivity {sensitivity}, {setting}"
        return Anchor("long_term_satisfaction", where, "engagement", value, error, source, returns(cohort), EPISODES)

    both = {"num_candidates": 2, "clickbait": (0.0, 1.0)}
    return (
        anchor(0.01, "random", "random", 950.0, 5.2),
        anchor(0.01, "highest of 5", "myopic", 1086.2, 5.9),
        anchor(0.01, "lowest of 5", "kale", 816.0, 4.4),
        anchor(0.01, "always 1", "myopic", 1149.3, 8.1, **both),
        anchor(0.01, "always 0", "kale", 748.2, 5.2, **both),
        anchor(0.1, "random", "random", 955.3, 5.3),
        anchor(0.1, "highest of 5", "myopic", 867.2, 4.7),
        anchor(0.1, "lowest of 5", "kale", 995.1, 5.4),
        anchor(0.1, "always 1", "myopic", 811.7, 5.7, **both),
        anchor(0.1, "always 0", "kale", 992.1, 7.0, **both),
        anchor(0.2, "random", "random", 968.9, 5.6),
        anchor(0.2, "highest of 5", "myopic", 682.9, 3.8),
        anchor(0.2, "lowest of 5", "kale", 1237.2, 6.9),
        anchor(0.2, "always 1", "myopic", 566.1, 4.0, **both),
        anchor(0.2, "always 0", "kale", 1339.3, 9.5, **both),
    )


ANCHORS: tuple[Anchor, ...] = (*_evolution(), *_exploration(), *_satisfaction())
