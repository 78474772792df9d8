"""A TD update whose target is the best of the whole catalogue, beside the same with dense optax and with PyTorch.

Run:    python benchmarks/td_update.py            (about two minutes on two CPU cores)
Smoke:  python benchmarks/td_update.py --smoke
Prints: one table. One seed; windows of one step, slates of 5, histories of 20, a mean encoder, a
        normalised dot-product Q-network. PyTorch does the same with sparse embedding gradients
        and SparseAdam, where it is installed. Each contender runs in a process of its own.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from _measure import Options, measure, megabytes, milliseconds, ratio, show, temporary_megabytes

from recjax import agents, nn
from recjax.catalogue import row_adam
from recjax.fit import RowWise
from recjax.replay import Batch
from recjax.types import Items, Observation, Response, Spec, Step

SLATE, HISTORY = 5, 20


@dataclasses.dataclass(frozen=True)
class Config(Options):
    items: tuple[int, ...] = (100_000, 1_000_000)
    batch: int = 256
    dim: int = 64
    seconds: float = 5.0
    """Time spent on each measurement after warming up."""


def sample_of(items: int, batch: int) -> Batch:
    rng = np.random.default_rng(0)

    def ids(width: int) -> jax.Array:
        return jnp.asarray(rng.integers(0, items, (batch, 1, width)), jnp.int32)

    def observation() -> Observation:
        return Observation(ids(HISTORY), jnp.ones((batch, 1, HISTORY), jnp.int32))

    reward, no = jnp.asarray(rng.random((batch, 1, SLATE)), jnp.float32), jnp.zeros((batch, 1), bool)
    steps = Step(
        observation(), ids(SLATE), jnp.zeros((batch, 1)), None, Response(click=reward), reward, no, no, observation()
    )
    return Batch(steps, jnp.ones(batch, bool), jnp.arange(batch), jnp.full(batch, 1.0 / batch))


def update(items: int, batch: int, dim: int, *, by_rows: bool, double: bool) -> tuple[Callable, float | None]:
    optimizer = RowWise(row_adam(1e-3), optax.adam(1e-3)) if by_rows else optax.adam(1e-3)
    agent = agents.dqn(
        nn.DotProductQ.of(items, dim=dim), optimizer, double=double, index_every=100 if by_rows else None
    )
    catalogue = Items(popularity=jnp.ones(items), is_new=jnp.zeros(items, bool))
    state = agent.init(jax.random.key(0), Spec(items, SLATE, HISTORY), catalogue)
    program = jax.jit(agent.learn, donate_argnums=1).lower(jax.random.key(0), state, sample_of(items, batch)).compile()
    box, sample = [state], sample_of(items, batch)

    def work() -> None:
        box[0], metrics, _ = program(jax.random.key(0), box[0], sample)
        jax.block_until_ready((box[0].params, metrics))

    return work, temporary_megabytes(program)


def torch_update(items: int, batch: int, dim: int, *, double: bool) -> tuple[Callable, float | None]:
    import torch
    from torch.nn import functional

    torch.manual_seed(0)
    steps = jax.tree.map(lambda x: torch.from_numpy(np.array(x)[:, 0]), sample_of(items, batch).experience)

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.item = torch.nn.Embedding(items, dim, sparse=True)
            self.user, self.value = torch.nn.Linear(dim, dim), torch.nn.Linear(dim, 1)

        def users(self, history: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            user = self.user(self.item(history.long()).mean(1))
            return functional.normalize(user, dim=-1), self.value(user)

        def at(self, history: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
            user, value = self.users(history)
            return (user[:, None] * functional.normalize(self.item(ids.long()), dim=-1)).sum(-1) + value

        def all(self, history: torch.Tensor) -> torch.Tensor:
            user, value = self.users(history)
            scores = user @ functional.normalize(self.item.weight, dim=-1).T + value
            return scores.scatter_(1, history.long(), -torch.inf)

    online, target = Network(), Network()
    tables = [online.item.weight]
    rest = [*online.user.parameters(), *online.value.parameters()]
    optimizers = torch.optim.SparseAdam(tables, lr=1e-3), torch.optim.Adam(rest, lr=1e-3)

    def work() -> None:
        after = steps.next_observation.history
        with torch.no_grad():
            if double:
                best = online.all(after).argmax(-1, keepdim=True)
                v_t = target.at(after, best)
            else:
                v_t = target.all(after).max(-1, keepdim=True).values
        q_tm1 = online.at(steps.observation.history, steps.slate)
        loss = functional.huber_loss(q_tm1, steps.reward + 0.95 * v_t)
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()

    return work, None


def main(config: Config) -> None:
    if config.smoke:
        config = dataclasses.replace(config, items=(2_000,), batch=8, dim=8, seconds=0.0)
    rows = []
    for items in config.items:
        for double in (True, False):
            ours = partial(update, by_rows=True, double=double)
            contenders: dict[str, Callable] = {
                "recjax, row_adam and cached vectors": ours,
                "recjax, optax.adam": partial(update, by_rows=False, double=double),
            }
            if importlib.util.find_spec("torch"):
                contenders["PyTorch, SparseAdam"] = partial(torch_update, double=double)
            reference = None
            for name, contender in contenders.items():
                sizes = {"items": items, "batch": config.batch, "dim": config.dim}
                found = measure(contender, config.seconds, alone=not config.smoke, **sizes)
                reference = reference or found["seconds"]
                rows.append([
                    name, f"{items:,}", "double" if double else "max", milliseconds(found["seconds"]),
                    ratio(found["seconds"] / reference), megabytes(found["temporary"]), megabytes(found["peak"]),
                ])  # fmt: skip
    show(
        config,
        "td_update",
        f"A TD update of {config.batch} steps against the whole catalogue, dim {config.dim}",
        ["", "items", "target", "ms", "× recjax", "temporary MB", "peak MB"],
        rows,
        ["jax", "optax", "torch"],
    )


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
