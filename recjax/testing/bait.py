"""A probe of slates: items that are clicked much and please little, beside good ones, with its optimum.

A user is at one of several levels of pleasure, which can be seen, and chooses one of the slots of a slate or nothing.
Half of the items are **bait**: chosen more often than the others, but the user is less pleased afterwards. The session
ends the sooner the less pleased a user is. So a slate of bait earns most at once, and one without bait in the long run.

An agent that credits each slot with its own reward and the value of what comes next, whoever brought that about, shows
bait for ever; one that values a slate through the user's choice finds the optimum.

>>> process = Bait()
>>> process.optimum(discount=0.99).tolist(), process.slot_wise(discount=0.99).tolist()
([0, 0, 0], [2, 2, 2])
"""

from __future__ import annotations

import dataclasses
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from recjax.envs import Environment, Transition, environments
from recjax.envs.choice import dynamics
from recjax.types import PAD_ID, Array, Items, Observation, Response, Spec


@dataclasses.dataclass(frozen=True)
class Bait:
    """The process.

    Attributes:
      bait_logit: of choosing an item of bait rather than nothing.
      good_logit: of choosing another item.
      leave: probability of leaving after a step, by level of pleasure from the lowest to the highest.
      slots: of a slate.
      items: of each kind; bait comes first.
    """

    bait_logit: float = 2.0
    good_logit: float = 0.0
    leave: tuple[float, ...] = (0.3, 0.1, 0.02)
    slots: int = 2
    items: int = 3

    def chances(self, bait: int) -> np.ndarray:
        """``f64[3]``: probabilities of choosing bait, a good item and nothing, of a slate with so much bait."""
        odds = np.array([bait * np.exp(self.bait_logit), (self.slots - bait) * np.exp(self.good_logit), 1.0])
        return odds / odds.sum()

    def values(self, policy: np.ndarray, discount: float) -> np.ndarray:
        """``f64[S]`` clicks to come under a policy, the number of bait in the slate of each level."""
        levels = len(self.leave)
        chances = np.array([self.chances(bait) for bait in policy])
        move = np.zeros((levels, levels))
        for level in range(levels):
            for chance, to in zip(chances[level], self._levels_after(level), strict=True):
                move[level, to] += chance * discount * (1 - self.leave[to])
        return np.linalg.solve(np.eye(levels) - move, chances[:, :2].sum(1))

    def _levels_after(self, level: int) -> np.ndarray:
        """``i64[3]``: the levels after bait, a good item and nothing, as :meth:`chances` has them."""
        return np.array([max(level - 1, 0), min(level + 1, len(self.leave) - 1), level])

    def _after(self, level: int, bait: int, values: np.ndarray) -> float:
        after = self._levels_after(level)
        return float(self.chances(bait) @ ((1 - np.array(self.leave)[after]) * values[after]))

    def optimum(self, discount: float) -> np.ndarray:
        """``i64[S]``, how much bait the best slate of each level has, by policy iteration."""
        policy = np.zeros(len(self.leave), int)
        while True:
            values = self.values(policy, discount)
            q = np.array(
                [
                    [
                        self.chances(bait)[:2].sum() + discount * self._after(level, bait, values)
                        for bait in range(self.slots + 1)
                    ]
                    for level in range(len(self.leave))
                ]
            )
            if np.all(q.max(1) <= q[np.arange(len(policy)), policy] + 1e-12):
                return policy
            policy = q.argmax(1)

    def slot_wise(self, discount: float) -> np.ndarray:
        """``i64[S]``, how much bait is shown where every slot is credited with its own reward and what comes next.

        The fixed point of learning from uniform slates: ``Q(s, a) = E[r_a + γ max_a' Q(s', a')]`` over slates of ``a``.
        """
        q = np.zeros((len(self.leave), 2))
        for _ in range(20_000):
            best = q.max(1)
            new = np.array([[self._credit(level, kind, best, discount) for kind in (0, 1)] for level in range(len(q))])
            if np.abs(new - q).max() < 1e-10:
                break
            q = new
        return np.where(q[:, 0] > q[:, 1], self.slots, 0)

    def _credit(self, level: int, kind: int, best: np.ndarray, discount: float) -> float:
        """Of an item of a kind (0 is bait), over the kinds of the other slots of uniform slates without repeats."""
        total = 0.0
        others, left = self.slots - 1, 2 * self.items - 1
        same = self.items - 1
        for bait in range(others + 1):
            of_kind = (same, self.items) if kind == 0 else (self.items, same)
            ways = math.comb(of_kind[0], bait) * math.comb(of_kind[1], others - bait) / math.comb(left, others)
            shown = bait + (kind == 0)
            count = shown if kind == 0 else self.slots - shown
            total += ways * (self.chances(shown)[kind] / count + discount * self._after(level, shown, best))
        return total


@struct.dataclass
class Params:
    """The numbers of a :class:`Bait` as arrays: ``f32[N]`` logits, ``f32[S]`` probabilities of leaving."""

    logits: Array
    leave: Array


def _observe(level: Array, levels: int) -> Observation:
    pad = jnp.full((1,), PAD_ID, jnp.int32)
    return Observation(history=pad, behaviour=pad, context=jax.nn.one_hot(level, levels))


def _reset(key: Array, params: Params, world: None) -> tuple[Observation, Array]:
    level = jax.random.randint(key, (), 0, len(params.leave))
    return _observe(level, len(params.leave)), level


def _step(key: Array, level: Array, slate: Array, params: Params, world: None, *, bait: int) -> Transition:
    choice_u, leave_u = jax.random.uniform(key, (2,))
    choice = dynamics.pick(jnp.append(params.logits[slate], 0.0), choice_u)
    click = jnp.arange(slate.shape[0]) == choice
    change = jnp.where(jnp.any(click & (slate < bait)), -1, jnp.where(jnp.any(click), 1, 0))
    after = jnp.clip(level + change, 0, len(params.leave) - 1)
    terminated = leave_u < params.leave[after]
    response = Response(click=click.astype(jnp.float32))
    return Transition(_observe(after, len(params.leave)), after, response, terminated, jnp.zeros((), bool), {})


@environments.register("probe_bait")
def bait(process: Bait = Bait()) -> Environment:
    """The environment of a :class:`Bait`."""
    logits = np.repeat([process.bait_logit, process.good_logit], process.items)
    return Environment(
        spec=Spec(len(logits), process.slots, history_length=1, context_size=len(process.leave)),
        params=Params(jnp.asarray(logits, jnp.float32), jnp.asarray(process.leave, jnp.float32)),
        items=Items(popularity=jnp.ones(len(logits)), is_new=jnp.zeros(len(logits), bool)),
        reset=_reset,
        step=partial(_step, bait=process.items),
    )
