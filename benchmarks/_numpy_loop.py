"""The peer of the loop: acting and responding as one would write them with NumPy, by the same rules.

It has the users, the network, the exploration, the arrivals and the metrics of ``envs.synthetic`` and of a DQN with
:class:`recjax.nn.DotProductQ`: everything that the compiled loop computes when nothing learns, and nothing more.
Like the compiled loop it makes the vectors of the items once, writes arrays in place, and draws few random numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from recjax.envs.base import Environment
from recjax.envs.sims.synthetic import CANDIDATES, USER_BIAS_SCALE
from recjax.types import PAD_ID, Behaviour

CLICK, PURCHASE = int(Behaviour.CLICK), int(Behaviour.PURCHASE)
SUMS = ("slates", "slots", "clicks", "conversions", "satisfaction", "diversity")


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def pick(logits: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """One draw from the softmax of each row of logits."""
    mass = np.exp(logits - logits.max(-1, keepdims=True)).cumsum(-1)
    return (mass <= uniform[..., None] * mass[..., -1:]).sum(-1)


class Network:
    """The Q-network of trained parameters, whose item vectors are made once."""

    def __init__(self, params: Any, genres: np.ndarray) -> None:
        p = {name: np.asarray(value) for name, value in _flat(params["params"]).items()}
        table = p["item/embedding"].copy()
        table[:-2] += genres @ p["item/multi_hot/kernel"]
        table[-1] = 0
        vectors = table[:-2] / np.linalg.norm(table[:-2], axis=1, keepdims=True)
        behaviour = p["user/behaviour"]
        self.table, self.behaviour = table, np.concatenate([behaviour, np.zeros_like(behaviour[:1])])
        self.cold, self.kernel, self.bias = p["user/cold_start"], p["user/output/kernel"], p["user/output/bias"]
        self.scale, self.value_kernel, self.value_bias = p["scale"], p["value/kernel"], p["value/bias"]
        one = np.ones_like(vectors[:, :1])
        self.vectors = np.ascontiguousarray(np.concatenate([vectors, one, p["item_bias"]], axis=1).T)

    def scores(self, history: np.ndarray, behaviour: np.ndarray) -> np.ndarray:
        """Values of every item, ``f32[U, N]``."""
        count = (history != PAD_ID).sum(1)
        # The last rows of both tables are zero: those of padding.
        mean = (self.table[history] + self.behaviour[behaviour]).sum(1) / np.maximum(count, 1)[:, None].astype("f4")
        mean[count == 0] = self.cold
        user = mean @ self.kernel + self.bias
        query = np.ones((len(user), user.shape[1] + 2), np.float32)
        query[:, :-2] = self.scale * user / np.linalg.norm(user, axis=1, keepdims=True)
        query[:, -2:-1] = user @ self.value_kernel + self.value_bias
        return query @ self.vectors


class NumpyLoop:
    """Users of ``envs.synthetic`` and an ε-greedy policy; :meth:`run` is one chunk."""

    def __init__(self, env: Environment, params: Any, users: int, epsilon: float, seed: int = 0) -> None:
        self.rng = np.random.Generator(np.random.SFC64(seed))
        self.spec, self.response = env.spec, {k: np.float32(v) for k, v in vars(env.params.response_model).items()}
        factors = env.params.factors
        self.factors, self.topics = np.asarray(factors.vectors), np.asarray(factors.topics)
        self.item_bias = np.asarray(factors.bias)
        self.cumulative = np.asarray(env.params.population.cumulative_popularity)
        self.popularity, self.is_new = np.asarray(env.items.popularity), np.asarray(env.items.is_new)
        content = np.asarray(env.items.content)
        norm = np.linalg.norm(content, axis=1, keepdims=True)
        self.content, self.has_content = content / np.maximum(norm, 1e-12), (norm[:, 0] > 0).astype("f4")
        self.network, self.epsilon = Network(params, np.asarray(env.items.features["genres"].values)), epsilon
        length, width = env.spec.history_length, self.factors.shape[1]
        self.history = np.full((users, length), PAD_ID, np.int32)
        self.behaviour = np.full((users, length), PAD_ID, np.int32)
        self.taste, self.memory = np.zeros((users, width), "f4"), np.zeros((users, width), "f4")
        self.user_bias, self.satisfaction = np.zeros(users, "f4"), np.zeros(users, "f4")
        self.steps = np.zeros(users, np.int32)
        self.position = (np.arange(env.spec.slate_size) * np.log(self.response["position_discount"])).astype("f4")
        self.arrive(np.arange(users))

    def run(self, steps: int) -> dict[str, float]:
        """Some steps of all users, and the metrics of what they were shown."""
        self.counts = np.zeros(self.spec.num_items, np.int64)
        self.sums = dict.fromkeys(SUMS, 0.0)
        for _ in range(steps):
            self.respond(self.act())
        return self.metrics()

    def act(self) -> np.ndarray:
        """Slates ``[U, K]``: the best items that are not in the history, some slots drawn at random."""
        history, slots = self.history, self.spec.slate_size
        scores = self.network.scores(history, self.behaviour)
        row, column = np.nonzero(history != PAD_ID)
        scores[row, history[row, column]] = -np.inf
        best = np.argpartition(scores, scores.shape[1] - slots, axis=1)[:, -slots:]
        order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1)
        slate = np.take_along_axis(best, order, axis=1)
        explores = self.rng.random(slate.shape, dtype=np.float32) < self.epsilon
        slate[explores] = PAD_ID
        row, column = np.nonzero(explores)
        while len(row):
            drawn = self.rng.integers(self.spec.num_items, size=len(row))
            free = ~((drawn[:, None] == slate[row]).any(1) | (drawn[:, None] == history[row]).any(1))
            # Of equal draws for one slate, the first counts.
            _, first = np.unique(row[free] * self.spec.num_items + drawn[free], return_index=True)
            taken = np.flatnonzero(free)[first]
            slate[row[taken], column[taken]] = drawn[taken]
            left = np.ones(len(row), bool)
            left[taken] = False
            row, column = row[left], column[left]
        return slate

    def respond(self, slate: np.ndarray) -> None:
        """Choices, conversions, satisfaction and boredom; who leaves makes room for somebody new."""
        r, users = self.response, len(slate)
        bored = np.maximum(np.matmul(self.topics[slate], self.memory[:, :, None])[..., 0], 0)
        liked = np.matmul(self.factors[slate], self.taste[:, :, None])[..., 0]
        attraction = liked + self.item_bias[slate] + self.user_bias[:, None] - r["boredom_weight"] * bored
        logits = np.full((users, slate.shape[1] + 1), r["no_click_logit"], np.float32)
        logits[:, :-1] = r["choice_scale"] * attraction + self.position
        uniform = self.rng.random((3, users), dtype=np.float32)
        choice = pick(logits, uniform[0])
        clicked = np.flatnonzero(choice < slate.shape[1])
        item, pleasure = slate[clicked, choice[clicked]], sigmoid(attraction[clicked, choice[clicked]])
        converts = uniform[1][clicked] < r["conversion_rate"] * pleasure
        self.memory *= r["memory_decay"]
        self.memory[clicked] += (1 - r["memory_decay"]) * self.topics[item]
        before = self.satisfaction[clicked]
        self.satisfaction *= 1 - r["no_click_decay"]
        self.satisfaction[clicked] = before + r["satisfaction_rate"] * (pleasure - before)
        for events, event in ((self.history, item), (self.behaviour, np.where(converts, PURCHASE, CLICK))):
            events[clicked, :-1] = events[clicked, 1:]
            events[clicked, -1] = event
        self.steps += 1
        self.count(slate, len(clicked), int(converts.sum()), float(pleasure.sum()))
        leaves = uniform[2] < np.minimum(r["leave_base"] + r["leave_slope"] * (1 - self.satisfaction), 1)
        self.arrive(np.flatnonzero(leaves | (self.steps >= r["max_steps"])))

    def arrive(self, who: np.ndarray) -> None:
        """Users drawn afresh in the rows ``who``."""
        if not len(who):
            return
        length = self.spec.history_length
        taste = self.rng.standard_normal((len(who), self.factors.shape[1] + 1), dtype=np.float32)
        uniform = self.rng.random((len(who), length, CANDIDATES + 1), dtype=np.float32)
        candidates = np.minimum(
            np.searchsorted(self.cumulative, uniform[..., :-1], side="right"), len(self.factors) - 1
        )
        liked = np.einsum("uhcd,ud->uhc", self.factors[candidates], taste[:, :-1]) + self.item_bias[candidates]
        items = np.take_along_axis(candidates, pick(liked, uniform[..., -1])[..., None], axis=-1)[..., 0]
        events = np.floor((length + 1) * self.rng.random(len(who), dtype=np.float32))
        present = np.arange(length) >= length - events[:, None]
        self.history[who], self.behaviour[who] = np.where(present, items, PAD_ID), np.where(present, CLICK, PAD_ID)
        self.taste[who], self.user_bias[who] = taste[:, :-1], USER_BIAS_SCALE * taste[:, -1]
        self.memory[who], self.satisfaction[who], self.steps[who] = 0, self.response["initial_satisfaction"], 0

    def count(self, slate: np.ndarray, clicks: int, conversions: int, satisfaction: float) -> None:
        """Adds one step to the sums."""
        users, slots = slate.shape
        if slate.size > self.spec.num_items // 8:
            self.counts += np.bincount(slate.ravel(), minlength=self.spec.num_items)
        else:
            np.add.at(self.counts, slate.ravel(), 1)
        cosines = (self.content[slate].sum(1) ** 2).sum(-1) - self.has_content[slate].sum(1)
        diversity = float((1 - cosines / (slots * (slots - 1))).sum())
        step = (users, users * slots, clicks, conversions, satisfaction, diversity)
        for name, value in zip(SUMS, step, strict=True):
            self.sums[name] += value

    def metrics(self) -> dict[str, float]:
        """What :class:`recjax.eval.Exposure` reports, under the same names."""
        s, counts = self.sums, self.counts
        shares = counts / counts.sum()
        tail = np.ones(len(counts), bool)
        tail[np.argsort(-self.popularity, kind="stable")[: round(0.2 * len(counts))]] = False
        information = np.log2((self.popularity + 1).sum()) - np.log2(self.popularity + 1)
        of_log = (self.popularity**2).sum() / self.popularity.sum()
        rank = 2 * np.arange(1, len(counts) + 1) - len(counts) - 1
        return {
            "ctr": s["clicks"] / s["slots"],
            "click_rate": s["clicks"] / s["slates"],
            "conversion_rate": s["conversions"] / max(s["clicks"], 1),
            "satisfaction": s["satisfaction"] / max(s["clicks"], 1),
            "satisfaction_per_slate": s["satisfaction"] / s["slates"],
            "diversity": s["diversity"] / s["slates"],
            "coverage": float(np.mean(counts > 0)),
            "tail_coverage": float((tail & (counts > 0)).sum() / tail.sum()),
            "new_coverage": float((self.is_new & (counts > 0)).sum() / self.is_new.sum()),
            "novelty_information": float((shares * information).sum()),
            "novelty_new": float(shares[self.is_new].sum()),
            "gini": float((rank * np.sort(shares)).sum() / len(counts)),
            "popularity_lift": float((shares * self.popularity).sum() / of_log - 1),
        }


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """``{"a": {"b": x}} -> {"a/b": x}``."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        found |= _flat(value, f"{prefix}{name}/") if hasattr(value, "items") else {f"{prefix}{name}": value}
    return found
