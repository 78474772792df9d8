"""Whether DQN learns with each of its parts: double DQN on CartPole, and the same with one part more.

CartPole-v1 counts as solved at a mean return of 475 over 100 episodes; 500 is the most. All have n-step returns, the
same optimiser and the same steps; nothing was chosen for a single part but the range of atoms.

    python experiments/simulators/dqn_parts.py
    python experiments/simulators/dqn_parts.py --smoke          # small sizes, seconds
"""

from __future__ import annotations

import dataclasses
import sys
import time
from pathlib import Path
from typing import Any

import flax.linen as linen
import jax
import numpy as np
import optax
import tyro
from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _results import Row, machine, write_rows

from recjax import agents, loop, nn, rewards, testing
from recjax.report import rich_table

UPDATES, POLES = 2, 16
"""Updates a step of all poles, and how many there are."""


@dataclasses.dataclass(frozen=True)
class Config:
    seeds: int = 5
    """Independent repetitions of each agent."""
    steps: int = 8_000
    """Steps of each of 16 CartPoles."""
    parts: tuple[str, ...] = ("double", "max", "prioritised", "Munchausen", "QR-DQN", "C51", "noisy", "all")
    """Which agents."""
    smoke: bool = False
    """Small sizes, to check that the script runs."""
    json: Path | None = None
    """File to which rows of name, value, unit and hardware are written."""


class Values(linen.Module):
    """``size`` numbers for each action by what is seen, with two hidden layers."""

    size: int = 1
    noisy: bool = False

    @linen.compact
    def __call__(self, observation: Any, items: Any) -> jax.Array:
        hidden = observation.context
        for _ in range(2):
            # Without the norm, values grow beyond what can be earned.
            hidden = linen.relu(linen.LayerNorm()(linen.Dense(64)(hidden)))
        layer = nn.NoisyDense if self.noisy else linen.Dense
        outputs = layer(items.num_items * self.size)(hidden)
        return outputs if self.size == 1 else outputs.reshape(len(outputs), items.num_items, self.size)


def agent_of(part: str, steps: int) -> agents.Agent:
    """DQN with a part, for as many steps."""
    updates, noisy = steps * UPDATES, part in ("noisy", "all")
    heads = {"QR-DQN": nn.Quantiles(32), "all": nn.Quantiles(32), "C51": nn.Categorical(0.0, 100.0, 51)}
    priorities = agents.Priorities(beta=(0.4, 1.0, updates)) if part in ("prioritised", "all") else None
    network: nn.ScoringNetwork = nn.DenseNetwork(Values(noisy=noisy), noisy=noisy)
    loss = agents.TDLoss("mse", agents.Munchausen() if part == "Munchausen" else None, priorities)
    if part in heads:
        network = nn.DenseDistributionalNetwork(Values(heads[part].size, noisy), heads[part], noisy=noisy)
        loss = agents.TDLoss(priorities=priorities)
    rate = optax.linear_schedule(2e-3, 0.0, updates)
    return agents.dqn(
        network,
        optax.chain(optax.clip_by_global_norm(10.0), optax.adam(rate)),
        n_step=5,
        discount=0.99,
        double=part != "max",
        loss=loss,
        target=agents.TargetNetwork(tau=0.02),
        policy=agents.SlatePolicy(exclude_history=False, epsilon=0.0 if noisy else (1.0, 0.1, steps // 3)),
    )


def returns(part: str, config: Config) -> np.ndarray:
    """Mean returns ``f64[seeds]`` over 100 episodes without exploration."""
    schedule = loop.LoopConfig(
        steps=config.steps, users=POLES, seeds=config.seeds, eval_every=config.steps, eval_steps=500, eval_users=100,
        batch_size=128, replay_capacity=50_000, learn_start=64, updates=UPDATES,
    )  # fmt: skip
    agent, reward = agent_of(part, config.steps), rewards.weighted(reward=1.0)
    found = loop.run(testing.cart_pole(), agent, schedule, reward=reward, metrics=[], key=jax.random.key(1))
    return found.final()["session_reward"]


def main(config: Config) -> None:
    """Learns and prints."""
    if config.smoke:
        config = dataclasses.replace(config, seeds=1, steps=80, parts=("all",))
    lines, rows = [], []
    for part in config.parts:
        start = time.monotonic()
        found = returns(part, config)
        seconds = time.monotonic() - start
        lines.append([part, f"{found.mean():.1f}", f"{np.median(found):.1f}", f"{found.min():.1f}", f"{seconds:.0f}"])
        rows += [
            Row(f"dqn_parts/{part}/{name}", float(value), "", machine()["hardware"])
            for name, value in (("mean", found.mean()), ("median", np.median(found)), ("least", found.min()))
        ]
        print(f"{part}: {found.mean():.1f} after {seconds:.0f} s", flush=True)
    title = f"Returns on CartPole after {config.steps * POLES:,} steps, {config.seeds} seeds"
    Console(width=120).print(rich_table(title, ["agent", "mean", "median", "worst seed", "seconds"], lines))
    write_rows(config.json, rows)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
