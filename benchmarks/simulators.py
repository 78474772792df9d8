"""How many user-steps a second the simulators make: random slates, and new users in the place of those who leave.

Run:    python benchmarks/simulators.py                       (a few minutes on two CPU cores)
        python benchmarks/simulators.py --only interest       (names that begin so)
        python benchmarks/simulators.py --recsim ~/recsim     (with the original in the same run)
Smoke:  python benchmarks/simulators.py --smoke
Prints: one table. A user-step is one user's answer to one slate; it includes drawing the slate, the candidates of the
        next step and the users who arrive, and no learning. "a core" is by the time that cores have spent on it, which
        other work on the machine changes less. Originals run one user at a time, as they do, where a checkout of them
        is given and can be imported (RecSim's needs the packages ``gym`` and ``six``); "×" compares cores.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from functools import partial, reduce
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from _measure import Number, Options, in_own_process, number, ratio, show
from _recsim_steps import recsim_steps

from recjax import envs
from recjax.agents import Action, Agent
from recjax.envs import Environment
from recjax.loop import Interaction
from recjax.prng import inlined

Peer = Callable[[Path, float], float]
"""``(checkout, seconds) -> steps a second of a core``."""


class Simulator(NamedTuple):
    """A row of the table.

    Attributes:
      make: makes the environment.
      setting: in words.
      peer: what is compared with, and of which checkout, or None.
    """

    make: Callable[[], Environment]
    setting: str
    peer: tuple[str, Peer] | None = None


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


def steps_a_second(name: str, users: int, seconds: float, chunk: int) -> tuple[float, float]:
    """User-steps a second: of the clock (median), and of a core's time (mean)."""
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
    served, answers = jax.block_until_ready(run(served, key, env.params))
    times: list[float] = []
    begun, used = time.perf_counter(), time.process_time()
    while time.perf_counter() - begun < seconds or not times:
        start = time.perf_counter()
        served, answers = jax.block_until_ready(run(served, jax.random.fold_in(key, len(times)), env.params))
        times.append(time.perf_counter() - start)
    if not bool(jnp.all(jnp.isfinite(answers))):
        raise ValueError(f"{name} has answered with infinite or NaN signals.")
    used = time.process_time() - used
    return users * chunk / float(np.median(times)), len(times) * users * chunk / used


def main(config: Config) -> None:
    """Measures and prints."""
    checkouts = {"recsim": config.recsim}
    users, seconds, chunk = ((16,), 0.0, 2) if config.smoke else (config.users, config.seconds, 100)
    rows: list[list[str | Number]] = []
    for name, simulator in SIMULATORS.items():
        if not name.startswith(config.only):
            continue
        peer = peer_steps(simulator, checkouts, seconds)
        for count in users:
            measure = (lambda function, *args: function(*args)) if config.smoke else in_own_process
            by_clock, by_core = measure(steps_a_second, name, count, seconds, chunk)
            ours = [number(rate, "user-steps/s") for rate in (by_clock, by_core)]
            times = ratio(None if peer is None else by_core / peer, 0)
            rows.append([name, simulator.setting, f"{count:,}", *ours, number(peer, "user-steps/s"), times])
    headings = ["simulator", "setting", "users", "user-steps/s", "a core", "original, a core", "×"]
    show(config, "simulators", "Simulators under random slates", headings, rows, ["jax", "numpy"])


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
