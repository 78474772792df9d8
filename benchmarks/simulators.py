"""How many user-steps a second the simulators make: random slates, and new users in the place of those who leave.

Run:    python benchmarks/simulators.py                       (a few minutes on two CPU cores)
        python benchmarks/simulators.py --only interest       (names that begin so)
        python benchmarks/simulators.py --recsim ~/recsim --sardine ~/sardine --recogym ~/reco-gym
                                                              (with the originals in the same run)
Smoke:  python benchmarks/simulators.py --smoke
Prints: one table. A user-step is one user's answer to one slate; it includes drawing the slate, the candidates of the
        next step and the users who arrive, and no learning, but in rows that name an agent: these are the whole loop,
        with two transitions drawn from replay for every user-step, or, by PPO, four epochs over every rollout. "a core"
        is by the time that cores have spent on it, which other work on the machine changes less. Originals run one user
        at a time, as they do, where a checkout of them is given and can be imported (google-research/recsim needs the
        packages ``gym`` and ``six``,
        criteo-research/reco-gym ``gym``, ``numba`` and ``pandas``, naver/sardine ``gymnasium``); "×" compares cores.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from functools import partial, reduce
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from _measure import Number, Options, in_own_process, number, ratio, show
from _recogym_steps import recogym_steps
from _recsim_steps import recsim_steps
from _sardine_steps import sardine_steps

from recjax import agents, envs, nn
from recjax.agents import Action, Agent
from recjax.envs import Environment
from recjax.loop import Interaction, LoopConfig, Program
from recjax.prng import inlined
from recjax.rewards import parse

PACKAGES = ["jax", "numpy", "gym", "gymnasium", "numba"]
"""Whose versions are told."""

SAMPLED, BATCH = 2, 1024
"""Transitions drawn from replay for every user-step, and those of an update."""

ROLLOUT, WIDTH = 16, 64
"""Steps of a rollout, and the hidden layer of the networks that learn from it."""

Peer = Callable[[Path, float], float]
"""``(checkout, seconds) -> steps a second of a core``."""


class Learner(NamedTuple):
    """An agent and how often it learns.

    Attributes:
      agent: the agent, which learns from the time that users watch.
      batch: transitions of an update that are drawn from replay.
      updates: calls of ``learn`` after each step of all users.
      by_step: updates after each step of all users.
      chunk: steps of a chunk.
    """

    agent: Agent
    batch: int
    updates: int
    by_step: float
    chunk: int


class Topics(linen.Module):
    """Logits of topics from what is known of a user's interests."""

    @linen.compact
    def __call__(self, observation: Any, items: Any) -> jax.Array:
        return linen.Dense(items.num_items)(linen.relu(linen.Dense(WIDTH)(observation.context)))


def slate_q(env: Environment, users: int) -> Learner:
    """SlateQ from replay."""
    batch = min(BATCH, users)
    policy = agents.SlatePolicy(epsilon=0.1, exclude_history=False)
    agent = agents.slate_q(nn.CandidateSlateQ(), optax.adam(1e-3), discount=0.99, policy=policy)
    return Learner(agent, batch, SAMPLED * users // batch, SAMPLED * users // batch, 5)


def ppo(env: Environment, users: int) -> Learner:
    """PPO from rollouts."""
    proximal = agents.Proximal(epochs=4, minibatches=4)
    agent = agents.ppo(
        nn.DenseNetwork(Topics()), nn.ContextValue((WIDTH,)), optax.adam(1e-3), length=ROLLOUT, discount=0.99,
        proximal=proximal, exclude_history=False,
    )  # fmt: skip
    return Learner(agent, 1, 1, proximal.epochs * proximal.minibatches / ROLLOUT, ROLLOUT)


class Simulator(NamedTuple):
    """A row of the table.

    Attributes:
      make: makes the environment.
      setting: in words.
      peer: what is compared with, and of which checkout, or None.
      learner: makes the agent of the whole loop, for so many users; None where slates are random.
    """

    make: Callable[[], Environment]
    setting: str
    peer: tuple[str, Peer] | None = None
    learner: Callable[[Environment, int], Learner] | None = None


def _row(name: str, setting: str, peer: tuple[str, Peer] | None = None, **options: Any) -> Simulator:
    return Simulator(partial(envs.environments.make, name, **options), setting, peer)


SIMULATORS: dict[str, Simulator] = {
    "synthetic": _row("synthetic", "1,000 items, k=5"),
    "interest_evolution": _row(
        "interest_evolution", "k=3, m=10", ("recsim", recsim_steps("interest_evolution", 3, 10))
    ),
    "interest_exploration": _row(
        "interest_exploration", "k=2, m=5", ("recsim", recsim_steps("interest_exploration", 2, 5))
    ),
    "long_term_satisfaction": _row(
        "long_term_satisfaction", "k=1, m=5", ("recsim", recsim_steps("long_term_satisfaction", 1, 5))
    ),
    "sardine": _row("sardine", "1,000 items, k=10", ("sardine", sardine_steps("SlateTopK-BoredInf-v0"))),
    "recogym": _row("recogym", "100 items, k=1", ("recogym", recogym_steps(100)), num_items=100),
    "interest_evolution, slate_q": _row("interest_evolution", "k=3, m=10")._replace(learner=slate_q),
    "interest_evolution, ppo": _row("interest_evolution", "k=3, m=10")._replace(learner=ppo),
}
"""By name; an environment needs no more than a row here."""


@dataclasses.dataclass(frozen=True)
class Config(Options):
    only: str = ""
    """Simulators whose names begin with this; all by default."""
    users: tuple[int, ...] = (4096, 65_536)
    """Users at once."""
    seconds: float = 3.0
    """Time spent on each measurement after warming up."""
    recsim: Path | None = None
    """Checkout of google-research/recsim."""
    sardine: Path | None = None
    """Checkout of naver/sardine."""
    recogym: Path | None = None
    """Checkout of criteo-research/reco-gym."""


def random_slates(env: Environment) -> Agent:
    """Uniform slates without repeats; vectors of normal numbers where actions are vectors."""
    spec = env.spec
    choices = spec.num_candidates or spec.num_items

    def act(key: jax.Array, state: Any, observation: Any, *, explore: bool = True) -> Action:
        count = observation.history.shape[0]
        if spec.action_size:
            return Action(jax.random.normal(key, (count, spec.action_size)), jnp.zeros(count))
        uniform = jax.random.uniform(key, (spec.slate_size, count))
        # The j-th slot holds the rank of its item among those that the slots before have left.
        ranks = [(uniform[j] * (choices - j)).astype(jnp.int32) for j in range(spec.slate_size)]
        slots = [
            reduce(lambda item, rank: item + (item >= rank), reversed(ranks[:j]), ranks[j]) for j in range(len(ranks))
        ]
        return Action(jnp.stack(slots, axis=1), jnp.zeros(count))

    return Agent(init=lambda *_, **__: (), act=act)


class Rates(NamedTuple):
    """How fast a simulator is.

    Attributes:
      by_clock: user-steps a second, the median.
      by_core: user-steps a second of the time of a core, the mean.
      updates: updates a second by the clock, None without learning.
    """

    by_clock: float
    by_core: float
    updates: float | None = None


def random_rates(name: str, users: int, seconds: float, chunk: int) -> Rates:
    """Under random slates."""
    env = SIMULATORS[name].make()
    slots = 1 if env.spec.action_size else env.spec.slate_size
    interaction = Interaction(env, random_slates(env), reward=lambda response: jnp.zeros((users, slots)))
    world_key, arrive_key, key = jax.random.split(jax.random.key(0), 3)
    # What changes for all users at once stays as it is: a tick is no user-step.
    world = env.world(world_key)

    @partial(jax.jit, donate_argnums=0)
    def run(served: Any, key: jax.Array, params: Any) -> tuple[Any, jax.Array]:
        def body(served: Any, key: jax.Array) -> tuple[Any, jax.Array]:
            served, step = interaction.step(key, served, (), params, world, explore=True)
            # Something of every answer, so that nothing is left out.
            return served, sum(jnp.sum(values) for values in step.response.values())

        return jax.lax.scan(body, served, jax.random.split(inlined(key), chunk))

    served = jax.jit(partial(interaction.arrive, count=users))(arrive_key, env.params, world)

    def work(served: Any, number: int) -> tuple[Any, jax.Array]:
        return run(served, jax.random.fold_in(key, number), env.params)

    return Rates(*_timed(name, work, served, seconds, users * chunk))


def learning_rates(name: str, users: int, seconds: float, chunk: int) -> Rates:
    """Of the whole loop: an agent acts, users respond, and it learns from the time that they watch."""
    simulator = SIMULATORS[name]
    assert simulator.learner is not None
    env = simulator.make()
    learner = simulator.learner(env, users)
    chunk = max(chunk, learner.chunk)
    config = LoopConfig(
        steps=chunk, chunk=chunk, eval_every=chunk, users=users, seeds=1, batch_size=learner.batch,
        updates=learner.updates, replay_capacity=16 * users, learn_start=0,
    )  # fmt: skip
    program = Program(env, learner.agent, config, parse("watch_time"))

    def work(state: Any, number: int) -> tuple[Any, jax.Array]:
        state, metrics = program.chunk(state)
        return state, metrics["learn/loss"]

    by_clock, by_core = _timed(name, work, program.init(jax.random.key(0)), seconds, users * chunk)
    return Rates(by_clock, by_core, by_clock * learner.by_step / users)


def _timed(
    name: str, work: Callable[[Any, int], tuple[Any, jax.Array]], state: Any, seconds: float, steps: int
) -> tuple[float, float]:
    """``(by clock, by core)`` user-steps a second of calls that do ``steps`` of them, after one that does not count."""
    state, answers = jax.block_until_ready(work(state, 0))
    times: list[float] = []
    begun, used = time.perf_counter(), time.process_time()
    while time.perf_counter() - begun < seconds or not times:
        start = time.perf_counter()
        state, answers = jax.block_until_ready(work(state, 1 + len(times)))
        times.append(time.perf_counter() - start)
    if not bool(jnp.all(jnp.isfinite(answers))):
        raise ValueError(f"{name} has answered with infinite or NaN numbers.")
    used = time.process_time() - used
    return steps / float(np.median(times)), len(times) * steps / used


def main(config: Config) -> None:
    """Measures and prints."""
    checkouts = {"recsim": config.recsim, "sardine": config.sardine, "recogym": config.recogym}
    users, seconds = ((16,), 0.0) if config.smoke else (config.users, config.seconds)
    rows: list[list[str | Number]] = []
    for name, simulator in SIMULATORS.items():
        if not name.startswith(config.only):
            continue
        peer = peer_steps(simulator, checkouts, seconds)
        rates, chunk = (random_rates, 100) if simulator.learner is None else (learning_rates, 1)
        for count in users:
            measure = (lambda function, *args: function(*args)) if config.smoke else in_own_process
            found = measure(rates, name, count, seconds, 2 if config.smoke else chunk)
            ours = [number(rate, "user-steps/s") for rate in (found.by_clock, found.by_core)]
            ours.append(number(found.updates, "updates/s"))
            times = ratio(None if peer is None else found.by_core / peer, 0)
            rows.append([name, simulator.setting, f"{count:,}", *ours, number(peer, "user-steps/s"), times])
    headings = ["simulator", "setting", "users", "user-steps/s", "a core", "updates/s", "original, a core", "×"]
    show(config, "simulators", "Simulators under random slates, or in the loop of an agent", headings, rows, PACKAGES)


def peer_steps(simulator: Simulator, checkouts: dict[str, Path | None], seconds: float) -> float | None:
    """Steps a second of the original on a core, None where there is none, or none to import."""
    if simulator.peer is None or checkouts[simulator.peer[0]] is None:
        return None
    name, measure = simulator.peer
    try:
        return measure(checkouts[name], seconds)  # type: ignore[arg-type]
    except ImportError as error:
        print(f"{name} is left out: {error}")
        return None


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
