"""What a policy shows to a few people: slates, a journey, and how exposure is spread over the catalogue.

After its run every policy serves the same small cohort of new users, by the same keys and without exploring, as
its first seed has learned to. A page draws what came of it; ids stand in the results, and each title once.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from recjax.agents import Action, Agent
from recjax.data import Dataset
from recjax.envs import Environment
from recjax.loop import LoopState, Users
from recjax.loop.interact import absent, arrive, respond, traced_once, with_items
from recjax.prng import inlined
from recjax.rewards import Reward
from recjax.types import PAD_ID, Array, PyTree, seed_axes

USERS, STEPS = 128, 50
"""The cohort, and the slates after which it is no longer followed."""

SHOWN_USERS, SHOWN_EVENTS, SHOWN_STEPS, SHOWN_ITEMS = 4, 10, 30, 10
"""How many users are shown, how many events of their past, slates of the journey, and most-shown items."""


class Followed(NamedTuple):
    """A cohort on its way through one policy.

    Attributes:
      history: ``i32[B, L]`` what users had before, oldest first.
      slate: ``i32[T, B, K]`` what they were shown, ``PAD_ID`` once they have left.
      reward: ``f32[T, B]`` of each slate.
      click: ``f32[T, B, K]``, None where users do not click.
      satisfaction: ``f32[T, B, K]``, None where users do not say.
    """

    history: np.ndarray
    slate: np.ndarray
    reward: np.ndarray
    click: np.ndarray | None
    satisfaction: np.ndarray | None


class Onlooker:
    """Follows the cohort through policies.

    Users are compiled once for all policies, and a policy for what it shows alone: the loop's own programs do more
    and would be compiled anew.

    Args:
      env: the users; its slates are items, not vectors.
      reward: function of the response.
      key: one typed PRNG key. Every policy meets the same users.
    """

    def __init__(self, env: Environment, reward: Reward, key: Array) -> None:
        self._env, self._reward = env, reward
        self._arrive_key, self._act_key, self._respond_key = jax.random.split(inlined(key), 3)
        self._arrive = jax.jit(lambda key, params, world: arrive(env, key, params, world, USERS))
        self._act = jax.jit(
            lambda act, *arguments: traced_once(act, "explore")(*arguments, explore=False).slate, static_argnums=0
        )
        self._respond = jax.jit(self._responded)

    def __call__(self, agent: Agent, state: LoopState) -> Followed:
        """Follows the cohort through the policy of the first seed.

        Args:
          agent: the policy.
          state: as its run has left it.
        """
        # Seeds may lie on several devices; the cohort is served by one. Said of all, or functions are compiled twice:
        # for what any device may hold at first, and for what that one holds.
        here = partial(jax.device_put, device=jax.devices()[0])
        first = here(first_seed({"agent": state.agent, "world": state.world}))
        world, params = first["world"], here(self._env.params)
        users, keys = here((self._arrive(self._arrive_key, params, world), (self._act_key, self._respond_key)))
        history, staying, seen = users.observation.history, here(jnp.ones(USERS, bool)), []
        for number in range(STEPS):
            act_key, key = (jax.random.fold_in(key, number) for key in keys)
            slate = self._act(agent.act, act_key, first["agent"], users.observation)
            users, world, staying, step = self._respond(key, users, slate, staying, params, world)
            seen.append(step)
        slates, rewards, clicks, satisfactions = zip(*jax.device_get(seen), strict=True)
        return Followed(np.asarray(history), np.stack(slates), np.stack(rewards), _stack(clicks), _stack(satisfactions))

    def _responded(
        self, key: Array, users: Users, slate: Array, staying: Array, params: PyTree, world: PyTree
    ) -> tuple[Users, PyTree, Array, tuple]:
        """One step of those who are still there; nobody comes for those who have left, so no arrivals are compiled."""
        step_key, tick_key = jax.random.split(key)
        action = Action(slate, jnp.zeros(USERS), None)
        keys = jax.random.split(step_key, USERS)
        going, step = respond(self._env, self._reward, keys, users, action, params, world)
        step = absent(with_items(step), staying)
        if self._env.tick is not None:
            world = self._env.tick(tick_key, world, step, params)
        answers = (step.response.get(name) for name in ("click", "satisfaction"))
        per_slot = (answer if answer is not None and answer.ndim == 2 else None for answer in answers)
        seen = step.slate, jnp.sum(step.reward, axis=-1), *per_slot
        return going, world, staying & ~(step.terminated | step.truncated), seen


def _stack(steps: tuple) -> np.ndarray | None:
    return None if steps[0] is None else np.stack(steps)


def first_seed(state: PyTree) -> PyTree:
    """The part of a state with seeds that belongs to the first of them.

    Of ``result.state.agent``, where :func:`recjax.loop.run` returned ``result``, it is what ``act`` takes, and
    :func:`recjax.serve.export.save`.

    Args:
      state: leaves ``[seeds, ...]``, but for what is declared :func:`recjax.types.shared`.
    """
    return jax.tree.map(
        lambda axis, leaf: leaf if axis is None else jax.tree.map(lambda x: x[0], leaf),
        seed_axes(state), state, is_leaf=lambda axis: axis is None,
    )  # fmt: skip


def summarise(followed: Mapping[str, Followed], dataset: Dataset) -> dict[str, Any]:
    """What a page shows of the cohort, as plain data.

    Args:
      followed: policy name to the cohort under that policy.
      dataset: names the items.

    Returns:
      ``users`` and ``steps`` of the cohort; ``histories`` of the users who are shown, newest first, the first of them
      being whose stay, over all policies, is the median; ``policies``, for each its first ``slates`` to these users,
      the ``journey`` of the first, and its ``exposure``: ``slots`` in all, ``items_by_slots`` as ``[slots, items]``
      pairs, and ``most_shown`` as ``[item, slots]``; and ``titles`` of all items that are named, by id.
    """
    cohort = next(iter(followed.values()))
    chosen = _chosen(list(followed.values()))
    histories = [_items(cohort.history[user])[::-1][:SHOWN_EVENTS] for user in chosen]
    policies: dict[str, dict[str, Any]] = {
        name: {
            "slates": [_items(each.slate[0, user]) for user in chosen],
            "journey": _journey(each, chosen[0]),
            "exposure": _exposure(each.slate, dataset.num_items),
        }
        for name, each in followed.items()
    }
    named = {item for history in histories for item in history}
    for shown in policies.values():
        named |= {item for slate in [*shown["slates"], *shown["journey"]["slates"]] for item in slate}
        named |= {item for item, _ in shown["exposure"]["most_shown"]}
    untitled = "item " if dataset.titles is None else ""
    titles = {str(item): untitled + dataset.title(item) for item in sorted(named)}
    return {"users": USERS, "steps": STEPS, "histories": histories, "policies": policies, "titles": titles}


def _chosen(followed: list[Followed]) -> list[int]:
    """Who is shown: the user of the median stay, who is neither lucky nor unlucky, and the first others."""
    stay = sum(np.any(each.slate != PAD_ID, axis=-1).sum(axis=0) for each in followed)
    typical = int(np.argsort(stay, kind="stable")[USERS // 2])
    return [typical, *(user for user in range(USERS) if user != typical)][:SHOWN_USERS]


def _journey(followed: Followed, user: int) -> dict[str, Any]:
    slates = [_items(slate) for slate in followed.slate[:, user]]
    stay = sum(map(bool, slates))
    shown = min(stay, SHOWN_STEPS)
    journey: dict[str, Any] = {
        "stay": stay,
        "left": stay < STEPS,
        "slates": slates[:shown],
        "reward": [round(float(reward), 4) for reward in followed.reward[:shown, user]],
    }
    if followed.click is not None:
        journey["clicked"] = [np.flatnonzero(click > 0).tolist() for click in followed.click[:shown, user]]
    if followed.satisfaction is not None:
        journey["satisfaction"] = [round(float(x.sum()), 4) for x in followed.satisfaction[:shown, user]]
    return journey


def _exposure(slates: np.ndarray, num_items: int) -> dict[str, Any]:
    counts = np.bincount(slates[slates != PAD_ID], minlength=num_items)
    most = np.argsort(-counts, kind="stable")[:SHOWN_ITEMS]
    slots, items = np.unique(counts, return_counts=True)
    return {
        "slots": int(counts.sum()),
        "items_by_slots": np.stack([slots, items], axis=1).tolist(),
        "most_shown": [[int(item), int(counts[item])] for item in most if counts[item]],
    }


def _items(ids: np.ndarray) -> list[int]:
    return [int(item) for item in ids if item != PAD_ID]
