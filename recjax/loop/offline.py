"""Offline learning: the loop without an environment, over a log that was collected by others."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from recjax.agents.base import Agent
from recjax.fit import Diverged, Progress
from recjax.loop.config import check_counts, check_multiple
from recjax.replay import from_dataset
from recjax.types import Array, Items, PyTree, Spec, Step


@dataclasses.dataclass(frozen=True)
class OfflineConfig:
    """How long an agent learns from a log."""

    updates: int = 1000
    """Updates in all."""
    chunk: int = 100
    """Updates compiled into one scan; must divide ``updates``."""
    batch_size: int = 256
    """Windows drawn from the log for one update."""

    def __post_init__(self) -> None:
        check_counts(self, OfflineConfig)
        check_multiple(self, "updates")


@dataclasses.dataclass(frozen=True)
class OfflineResult:
    """What offline learning leaves.

    Attributes:
      state: the agent's state after the last update.
      updates: ``int[C]`` updates done at the end of each chunk.
      metrics: metric of ``learn`` to its mean over each chunk, ``float[C]``.
    """

    state: PyTree
    updates: np.ndarray
    metrics: dict[str, np.ndarray]

    def __repr__(self) -> str:
        last = ", ".join(f"{name} {values[-1]:.4g}" for name, values in self.metrics.items() if len(values))
        return f"OfflineResult({int(self.updates[-1]) if len(self.updates) else 0:,} updates; last chunk: {last})"


def learn_offline(
    agent: Agent,
    steps: Step,
    spec: Spec,
    items: Items,
    config: OfflineConfig = OfflineConfig(),
    *,
    key: Array,
    params: PyTree = None,
    progress: Progress | None = None,
    callback: Callable[[int, PyTree], None] | None = None,
) -> OfflineResult:
    """Lets an agent learn from logged steps by the same ``learn`` as in a loop.

    Args:
      agent: one whose ``memory`` has windows (not a rollout).
      steps: leaves ``[E, ...]``, such as :func:`recjax.data.transitions` and
        :func:`recjax.data.bandit_steps` make them; see :func:`recjax.replay.from_dataset`.
      spec: static shape of the problem.
      items: what a platform knows of the items.
      config: how long.
      key: one typed PRNG key; the whole run follows from it.
      params: warm-starts the agent's network.
      progress: where to show progress.
      callback: called with the updates done and the agent's state after each chunk; it must not keep the state,
        whose memory the next chunk reuses.

    Raises:
      ValueError: the agent does not learn, or learns from rollouts; the log is not one of steps.
      Diverged: a metric of learning became infinite or NaN.

    >>> import optax
    >>> from recjax import agents, data, nn
    >>> log = data.Interactions([0, 0, 1, 1], [5, 6, 7, 8], time=[1, 2, 3, 4])
    >>> agent = agents.dqn(nn.DotProductQ.of(num_items=9, dim=4), optax.adam(1e-2))
    >>> items = Items(popularity=jnp.ones(9), is_new=jnp.zeros(9, bool))
    >>> steps = data.transitions(log, length=3)
    >>> short = OfflineConfig(updates=4, chunk=2, batch_size=8)
    >>> result = learn_offline(agent, steps, Spec(9, 1, 3), items, short, key=jax.random.key(0))
    >>> result.updates.tolist(), result.metrics["loss"].shape
    ([2, 4], (2,))
    """
    if agent.learn is None or agent.memory is None:
        raise ValueError("This agent does not learn: it has no learn and no memory.")
    if agent.memory.period is not None:
        raise ValueError("This agent learns from rollouts of its own policy; a log is of another policy.")
    learn = agent.learn
    buffer, log = from_dataset(steps, agent.memory.window)
    init_key, run_key = jax.random.split(key)
    state = agent.init(init_key, spec, items, agent.hparams, params)

    def chunk(state: PyTree, log: Any, key: Array) -> tuple[PyTree, dict[str, Array]]:
        def update(state: PyTree, key: Array) -> tuple[PyTree, dict[str, Array]]:
            sample_key, learn_key = jax.random.split(key)
            update = learn(learn_key, state, buffer.sample(sample_key, log, config.batch_size))
            return update.state, update.metrics

        state, metrics = jax.lax.scan(update, state, jax.random.split(key, config.chunk))
        return state, jax.tree.map(jnp.mean, metrics)

    run_chunk = jax.jit(chunk, donate_argnums=0)
    task = (progress or Progress(enabled=False)).task("offline", total=config.updates, unit="updates")
    rows: list[dict[str, float]] = []
    for number in range(config.updates // config.chunk):
        state, metrics = run_chunk(state, log, jax.random.fold_in(run_key, number))
        rows.append({name: float(value) for name, value in jax.device_get(metrics).items()})
        done = (number + 1) * config.chunk
        for name, value in rows[-1].items():
            if not np.isfinite(value):
                raise Diverged(
                    f"The mean {name} of updates {done - config.chunk + 1} to {done} is {value}. Lower the learning"
                    " rate, clip gradients, or check the rewards of the log."
                )
        task.update(config.chunk, **rows[-1])
        if callback:
            callback(done, state)
    task.finish()
    updates = (1 + np.arange(len(rows))) * config.chunk
    return OfflineResult(state, updates, {name: np.array([row[name] for row in rows]) for name in rows[0]})
