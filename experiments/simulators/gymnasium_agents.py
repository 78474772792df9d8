"""Agents across Gymnasium: our DQN on CartPole, and an agent of Stable-Baselines3 on our users.

CartPole-v1 counts as solved at a mean return of 475 over 100 episodes; 500 is the most. The same agent with the same
settings learns on the equations as a compiled environment and, through the adapter, on Gymnasium's own. PPO of
Stable-Baselines3 (an optional package, and PyTorch with it) serves our users, many in one call, beside random slates
and the slates that would be best if only the next click counted; all three meet new users.

    pip install 'recjax[gymnasium]' stable-baselines3
    python experiments/simulators/gymnasium_agents.py
    python experiments/simulators/gymnasium_agents.py --smoke          # small sizes, seconds
"""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium
import jax
import numpy as np
import tyro
from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _cart_pole import LEARNING, POLES, agent_of, compiled_returns
from _results import Row, machine, write_rows

from recjax import adapters, agents, envs, loop
from recjax.report import rich_table


@dataclasses.dataclass(frozen=True)
class Config:
    seeds: int = 5
    """Independent repetitions of each agent."""
    steps: int = 8_000
    """Steps of each of 16 CartPoles."""
    user_steps: int = 600_000
    """Slates that Stable-Baselines3 learns from."""
    users: int = 2_048
    """New users whom each policy serves in the end."""
    smoke: bool = False
    """Small sizes, to check that the script runs."""
    json: Path | None = None
    """File to which rows of name, value, unit and hardware are written."""


def gymnasium_cart_pole(config: Config) -> np.ndarray:
    """Mean returns ``f64[seeds]`` over 100 episodes, of Gymnasium's own."""
    agent, schedule = agent_of("double", config.steps), adapters.GymnasiumConfig(steps=config.steps, **LEARNING)
    arranged = {"vectorization_mode": "sync", "vector_kwargs": {"autoreset_mode": "SameStep"}}
    learning, testing_ = (gymnasium.make_vec("CartPole-v1", count, **arranged) for count in (POLES, 20))
    returns = []
    for seed in range(config.seeds):
        learn_key, test_key = jax.random.split(jax.random.key(seed))
        run = adapters.train_on_gymnasium(agent, learning, schedule, key=learn_key)
        found = adapters.evaluate_on_gymnasium(agent, run.state, testing_, episodes=5, key=test_key)
        returns.append(found.mean())
    return np.array(returns)


def shop() -> envs.Environment:
    """Users who choose among three of 20 items, and click about every second time."""
    return envs.synthetic(
        num_items=20, slate_size=3, history_length=5, response_model=envs.ResponseModel(no_click_logit=1.5)
    )


def yardsticks(config: Config) -> dict[str, np.ndarray]:
    """Clicks of a session ``f32[users]`` of random slates, and of those that are best for the next click."""
    env = shop()
    policies = {
        "random slates": agents.random(exclude_history=False),
        "best for the next click (sees what is hidden)": agents.oracle(env.oracles["myopic"].choose),
    }
    found = {}
    for name, agent in policies.items():
        run = loop.episode_runner(env, agent, users=config.users, steps=100)
        state = agent.init(jax.random.key(1), env.spec, env.items)
        found[name] = np.asarray(run(jax.random.key(0), state).reward)
    return found


def stable_baselines(config: Config) -> np.ndarray:
    """Mean clicks of a session ``f64[seeds]`` of PPO, after it has learned."""
    import torch
    from _stable_baselines import ManyUsers
    from stable_baselines3 import PPO

    torch.set_num_threads(1)
    env, count = shop(), 256
    options = {"n_steps": 32, "batch_size": 2048, "n_epochs": 4, "learning_rate": 3e-3, "gamma": 0.8, "ent_coef": 3e-3}
    learning, new_users = (adapters.gymnasium_vector_env(env, number) for number in (count, config.users))
    found = []
    for seed in range(1, config.seeds + 1):  # The options were chosen with seed 0.
        model = PPO("MultiInputPolicy", ManyUsers(learning, seed), seed=seed, device="cpu", **options)
        model.learn(config.user_steps)
        found.append(sessions(model, new_users, seed=1_000 + seed).mean())
    return np.array(found)


def sessions(model: Any, venv: gymnasium.vector.VectorEnv, seed: int) -> np.ndarray:
    """Rewards ``f64[users]`` of those who arrive first, each until it leaves."""
    seen, _ = venv.reset(seed=seed)
    total, staying = np.zeros(venv.num_envs), np.ones(venv.num_envs, bool)
    while staying.any():
        slates, _ = model.predict(seen, deterministic=True)
        seen, reward, terminated, truncated, _ = venv.step(slates)
        total += reward * staying
        staying &= ~(terminated | truncated)
    return total


PARTS = {
    "DQN on CartPole, compiled": lambda config: compiled_returns("double", config.steps, config.seeds),
    "DQN on Gymnasium's CartPole-v1": gymnasium_cart_pole,
    "PPO of Stable-Baselines3 on our users": stable_baselines,
}


def main(config: Config) -> None:
    """Learns and prints."""
    if config.smoke:
        config = dataclasses.replace(config, seeds=1, steps=80, user_steps=8_192, users=64)
    found: dict[str, np.ndarray] = {}
    seconds: dict[str, float] = {}
    for name, part in PARTS.items():
        if part is stable_baselines and importlib.util.find_spec("stable_baselines3") is None:
            print("Stable-Baselines3 is not installed, so it is left out: pip install stable-baselines3.")
            continue
        start = time.monotonic()
        found[name] = part(config)
        seconds[name] = time.monotonic() - start
        print(f"{name}: {found[name].mean():.2f} after {seconds[name]:.0f} s", flush=True)
    learned = set(found)
    found |= yardsticks(config)
    lines = []
    for name, values in found.items():
        error = f"{values.std(ddof=1) / np.sqrt(values.size):.2f}" if values.size > 1 else ""
        of_seeds = [f"{values.min():.1f}", f"{seconds[name]:.0f}"] if name in learned else ["", ""]
        lines.append([name, f"{values.mean():.2f}", error, *of_seeds])
    headings = ["agent", "return", "standard error", "worst seed", "seconds"]
    caption = "Errors are over seeds; those of agents that do not learn, over users."
    Console(width=120).print(rich_table("Returns without exploration", headings, lines, caption=caption))
    rows = [
        Row(f"gymnasium_agents/{name}/{part}", float(value), "", machine()["hardware"])
        for name, values in found.items()
        for part, value in (("mean", values.mean()), ("least", values.min()))
    ]
    write_rows(config.json, rows)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
