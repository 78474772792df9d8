"""The peer of the TD update: sampling from replay and one double-DQN update as one would write them in PyTorch.

It has the network, the replay, the excluded items and the target network of a DQN with
:class:`recjax.nn.DotProductQ` and windows of one step. A test holds its parameters against those of the compiled
update.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import torch
from torch.nn import functional

from recjax.types import PAD_ID, Items

DISCOUNT, LEARNING_RATE, TARGET_PERIOD, INDEX_EVERY = 0.95, 1e-3, 100, 100


def tensors(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: torch.from_numpy(np.array(leaf)), tree)


class Network(torch.nn.Module):
    """The Q-network, from the parameters of the compiled one; padding is the last row of every table."""

    def __init__(self, params: Any, genres: torch.Tensor, sparse: bool) -> None:
        super().__init__()
        p = tensors(dict(params["params"]))
        parameter = torch.nn.Parameter
        self.items, self.sparse = len(genres), sparse
        # The compiled network never reads the row of padding; here it is summed.
        self.table = parameter(functional.pad(p["item"]["embedding"][:-1], (0, 0, 0, 1)))
        self.register_buffer("genres", functional.pad(genres, (0, 0, 0, len(self.table) - len(genres))))
        self.multi_hot = parameter(p["item"]["multi_hot"]["kernel"])
        self.behaviour = parameter(functional.pad(p["user"]["behaviour"], (0, 0, 0, 1)))
        self.cold_start = parameter(p["user"]["cold_start"])
        self.kernel, self.bias = map(parameter, (p["user"]["output"]["kernel"], p["user"]["output"]["bias"]))
        self.scale, self.item_bias = parameter(p["scale"]), parameter(p["item_bias"])
        self.value_kernel, self.value_bias = map(parameter, (p["value"]["kernel"], p["value"]["bias"]))

    def vectors(self, ids: torch.Tensor) -> torch.Tensor:
        """``[..., D]`` of items, none of them padding."""
        own = functional.embedding(ids, self.table, sparse=self.sparse)
        return own + functional.embedding(ids, self.genres) @ self.multi_hot

    def every(self) -> torch.Tensor:
        """``[N + 2, D + 1]``, the unit vectors of all rows of the table and the biases of items."""
        unit = functional.normalize(torch.addmm(self.table, self.genres, self.multi_hot), dim=-1)
        return torch.cat([unit, functional.pad(self.item_bias, (0, 0, 0, len(unit) - self.items))], dim=-1)

    def user(self, history: torch.Tensor, behaviour: torch.Tensor) -> torch.Tensor:
        """``[B, D]``."""
        # Genres are summed before the product with the kernel, which is the same for fewer numbers.
        total = functional.embedding(history, self.genres).sum(1) @ self.multi_hot
        total = total + self._embedded(history, self.table, self.sparse).sum(1)
        total = total + self._embedded(behaviour, self.behaviour).sum(1)
        count = (history < self.items).sum(1, keepdim=True)
        mean = torch.where(count == 0, self.cold_start, total / count.clamp(min=1))
        return torch.addmm(self.bias, mean, self.kernel)

    def _embedded(self, ids: torch.Tensor, table: torch.Tensor, sparse: bool = False) -> torch.Tensor:
        return functional.embedding(ids, table, padding_idx=len(table) - 1, sparse=sparse)

    def value(self, user: torch.Tensor) -> torch.Tensor:
        return user @ self.value_kernel + self.value_bias

    def at(self, user: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """``[B, M]``."""
        chosen = functional.normalize(self.vectors(ids), dim=-1)
        cosine = torch.bmm(chosen, functional.normalize(user, dim=-1)[..., None])[..., 0]
        bias = functional.embedding(ids, self.item_bias, sparse=self.sparse)[..., 0]
        return self.scale * cosine + self.value(user) + bias

    def best(self, history: torch.Tensor, behaviour: torch.Tensor, every: torch.Tensor) -> torch.Tensor:
        """``[B]``, the items of the largest values without those of the history."""
        user = self.user(history, behaviour)
        # The value of the state is the same for all items.
        query = functional.pad(self.scale * functional.normalize(user, dim=-1), (0, 1), value=1.0)
        return (query @ every.T).scatter_(1, history, -torch.inf)[:, : self.items].argmax(-1)


class TorchUpdate:
    """A replay and a Q-network; calling it is one update.

    Args:
      params: variables of the compiled Q-network.
      items: the catalogue, with multi-hot genres.
      replay: state of a uniform buffer, of one seed.
      batch: windows of an update.
      by_rows: whether the item table has sparse gradients and ``SparseAdam``, and item vectors are kept, those
        of the batch made anew after each update and those of all after 100; else gradients are dense, ``Adam`` is
        fused, and the vectors of all items are made for each update.
    """

    def __init__(self, params: Any, items: Items, replay: Any, batch: int, *, by_rows: bool) -> None:
        genres = tensors(items.features["genres"].values).float()
        self.own, self.target = (Network(params, genres, by_rows) for _ in range(2))
        tables = [self.own.table, self.own.item_bias] if by_rows else []
        rest = [each for each in self.own.parameters() if all(each is not table for table in tables)]
        self.optimizers: list[torch.optim.Optimizer] = [torch.optim.Adam(rest, lr=LEARNING_RATE, fused=True)]
        if by_rows:
            self.optimizers.append(torch.optim.SparseAdam(tables, lr=LEARNING_RATE))
        with torch.no_grad():
            self.every = self.own.every() if by_rows else None
        held = replay.data
        self.replay = tensors({
            "history": held.observation.history, "behaviour": held.observation.behaviour, "slate": held.slate,
            "reward": held.reward, "terminated": held.terminated,
        })  # fmt: skip
        for name, rows in (("history", len(self.own.table)), ("behaviour", len(self.own.behaviour)), ("slate", 0)):
            ids = self.replay[name].long()
            self.replay[name] = torch.where(ids == PAD_ID, rows - 1, ids)
        self.rows, self.users = self.replay["terminated"].shape
        self.batch, self.step = batch, 0

    def sample(self) -> dict[str, torch.Tensor]:
        """Steps with what was observed next, which is the observation of the row that follows."""
        row, user = torch.randint(self.rows - 1, (self.batch,)), torch.randint(self.users, (self.batch,))
        drawn = {name: leaf[row, user] for name, leaf in self.replay.items()}
        after = {"next_" + name: self.replay[name][row + 1, user] for name in ("history", "behaviour")}
        return drawn | after

    def learn(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        with torch.no_grad():
            every = self.own.every() if self.every is None else self.every
            best = self.own.best(batch["next_history"], batch["next_behaviour"], every)
            after = self.target.user(batch["next_history"], batch["next_behaviour"])
            value = self.target.at(after, best[:, None])
            target = batch["reward"] + DISCOUNT * torch.where(batch["terminated"][:, None], 0, value)
        q = self.own.at(self.own.user(batch["history"], batch["behaviour"]), batch["slate"])
        loss = functional.huber_loss(q, target)
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in self.optimizers:
            optimizer.step()
        self.step += 1
        if self.step % TARGET_PERIOD == 0:
            self.target.load_state_dict(self.own.state_dict())
        if self.every is not None:
            self.refresh(batch)
        return loss.detach()

    @torch.no_grad()
    def refresh(self, batch: dict[str, torch.Tensor]) -> None:
        """Makes the kept vectors of the items of a batch anew, and now and then those of all."""
        if self.step % INDEX_EVERY == 0:
            self.every = self.own.every()
            return
        read = torch.cat([batch["history"].flatten(), batch["slate"].flatten()])
        self.every[read, :-1] = functional.normalize(self.own.vectors(read), dim=-1)
        items = read[read < self.own.items]
        self.every[items, -1] = self.own.item_bias[items, 0]

    def __call__(self) -> None:
        self.learn(self.sample())
