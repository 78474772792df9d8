"""DQN on CartPole as a compiled environment, which scripts of this folder share."""

from __future__ import annotations

from typing import Any

import flax.linen as linen
import jax
import numpy as np
import optax

from recjax import agents, loop, nn, rewards, testing

UPDATES, POLES = 2, 16
"""Updates a step of all poles, and how many there are."""

LEARNING = {"batch_size": 128, "replay_capacity": 50_000, "learn_start": 64, "updates": UPDATES}
"""How a loop learns, compiled or on Gymnasium's own poles."""


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


def compiled_returns(part: str, steps: int, seeds: int) -> np.ndarray:
    """Mean returns ``f64[seeds]`` over 100 episodes without exploration."""
    schedule = loop.LoopConfig(
        steps=steps, users=POLES, seeds=seeds, eval_every=steps, eval_steps=500, eval_users=100,
        **LEARNING,
    )  # fmt: skip
    agent, reward = agent_of(part, steps), rewards.weighted(reward=1.0)
    found = loop.run(testing.cart_pole(), agent, schedule, reward=reward, metrics=[], key=jax.random.key(1))
    return found.final()["session_reward"]
