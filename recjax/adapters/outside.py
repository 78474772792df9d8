"""Users who are shown what somebody outside of JAX chooses: compiled functions from one step to the next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import jax
import jax.numpy as jnp
from flax import struct

from recjax.agents import Action, random
from recjax.envs import Environment
from recjax.loop import Interaction, Users
from recjax.loop.interact import in_blocks, respond, with_items
from recjax.loop.validate import check_environment
from recjax.prng import inlined
from recjax.rewards import Reward
from recjax.rewards import parse as parse_reward
from recjax.types import PAD_ID, Array, Observation, PyTree, Response

Observe = Callable[[Observation], Any]
"""From what a platform sees of one user to what an agent outside is given: an array, or a dictionary of arrays."""


def as_dict(observation: Observation) -> dict[str, Array]:
    """What a platform sees of one user, as a dictionary of arrays.

    Ids and codes are categories that begin with 0 for padding, so item ``i`` is ``i + 1``.
    """
    seen = {"history": observation.history - PAD_ID, "behaviour": observation.behaviour - PAD_ID}
    if observation.context is not None:
        seen["context"] = observation.context
    if observation.time is not None:
        seen["time"] = observation.time
    if observation.candidates is not None:
        seen["candidates"] = observation.candidates.ids - PAD_ID
        for path, values in jax.tree_util.tree_leaves_with_path(observation.candidates.features):
            seen[".".join(filter(None, ("features", jax.tree_util.keystr(path, simple=True, separator="."))))] = values
    return seen


@struct.dataclass
class Crowd:
    """The users who are being served.

    Attributes:
      key: step ``t`` draws from ``fold_in(key, t)``.
      users: leaves ``[U, ...]``.
      world: what changes for all users.
      step: ``i32[]`` steps done.
    """

    key: Array
    users: Users
    world: PyTree
    step: Array


class Answer(NamedTuple):
    """What one step of all users brings, leaves ``[U, ...]``.

    Attributes:
      seen: what the agent is given for its next choice: of new users, where the old ones are done.
      last: what it would have been given of the users who answered.
      reward: ``f32[U]``, summed over slots.
      response: the signals.
      terminated: ``bool[U]``.
      truncated: ``bool[U]``.
    """

    seen: Any
    last: Any
    reward: Array
    response: Response
    terminated: Array
    truncated: Array


class Outside:
    """An environment whose users are shown what is chosen outside of JAX; each function is compiled once.

    Args:
      env: the environment.
      reward: function of the response, ``f32[U, K]``.
      observe: see :data:`Observe`.
      count: users who are served at once, ``U``.

    Raises:
      ValueError: the environment does not keep its contract, or the reward is not one number a slot.
    """

    def __init__(self, env: Environment, reward: Reward, observe: Observe, count: int) -> None:
        check_environment(env)
        self.env, self.observe, self.count = env, observe, count
        self._observe = jax.vmap(observe)
        # Its agent is never asked.
        self._interaction = Interaction(env, random(), reward)
        self._begin, self._step = jax.jit(self._begun), jax.jit(self._stepped, donate_argnums=0)
        crowd, self.seen = jax.eval_shape(self._begin, jax.eval_shape(lambda: jax.random.key(0)), env.params)
        jax.eval_shape(self._step, crowd, self._blank_actions(), env.params)

    def begin(self, key: Array) -> tuple[Crowd, Any]:
        """New users in a new world, and what is seen of them."""
        return self._begin(key, self.env.params)

    def step(self, crowd: Crowd, actions: Any) -> tuple[Crowd, Answer]:
        """All users answer, and who is done makes room for somebody new. ``crowd`` is donated.

        Args:
          crowd: the users.
          actions: ``i32[U, K]`` items, or positions in the candidates; ``f32[U, A]`` where actions are vectors. A slot
            that repeats one above it, or holds no candidate, shows nothing.
        """
        return self._step(crowd, actions, self.env.params)

    def _blank_actions(self) -> Any:
        spec = self.env.spec
        if spec.action_size:
            return jax.ShapeDtypeStruct((self.count, spec.action_size), jnp.float32)
        return jax.ShapeDtypeStruct((self.count, spec.slate_size), jnp.int32)

    def _begun(self, key: Array, params: PyTree) -> tuple[Crowd, Any]:
        world_key, arrive_key, run_key = jax.random.split(key, 3)
        world = self.env._replace(params=params).world(world_key)
        users = self._interaction.arrive(inlined(arrive_key), params, world, self.count)
        return Crowd(run_key, users, world, jnp.int32(0)), self._observe(users.observation)

    def _stepped(self, crowd: Crowd, actions: Array, params: PyTree) -> tuple[Crowd, Answer]:
        keys = jax.random.split(jax.random.fold_in(inlined(crowd.key), crowd.step), 3)

        def answered(_: Array, each: tuple[Users, Array, Array]) -> tuple[Users, Any]:
            users, chosen, own = each
            shown = chosen if self.env.spec.action_size else distinct(chosen, users.observation)
            action = Action(shown, jnp.zeros(len(shown)))
            return respond(self.env, self._interaction.reward, own, users, action, params, crowd.world)

        each = crowd.users, actions, jax.random.split(keys[0], self.count)
        going, step = in_blocks(answered, keys[:1], each)
        if step.reward.ndim != 2:
            raise ValueError(f"The reward of {self.count} users has shape {step.reward.shape}; give one number a slot.")
        users = self._interaction.replace(keys[1], going, step.terminated | step.truncated, params, crowd.world)
        world = self._interaction.tick(keys[2], crowd.world, with_items(step), params)
        answer = Answer(
            seen=self._observe(users.observation),
            last=self._observe(going.observation),
            reward=jnp.sum(step.reward, axis=-1),
            response=step.response,
            terminated=step.terminated,
            truncated=step.truncated,
        )
        return Crowd(crowd.key, users, world, crowd.step + 1), answer


_made: WeakValueDictionary[tuple, Outside] = WeakValueDictionary()
"""What is in use, by the identity of what it is made of."""


def outside(env: Environment, reward: Reward | str, observe: Observe, count: int) -> Outside:
    """An :class:`Outside`; those of the same environment, reward and view are one, so that it is compiled once.

    Agents of other libraries are given many environments of one user each.
    """
    key = (id(env), reward if isinstance(reward, str) else id(reward), id(observe), count)
    made = _made.get(key)
    if made is None:
        earned = parse_reward(reward) if isinstance(reward, str) else reward
        # It holds on to all of these, so no other object has their identity as long as it is in use.
        made = _made[key] = Outside(env, earned, observe, count)
    return made


def distinct(chosen: Array, observation: Observation) -> Array:
    """Slates ``i32[U, K]`` in which a slot that repeats one above it, or holds no candidate, is empty."""
    above = jnp.tril(chosen[:, :, None] == chosen[:, None, :], k=-1)
    empty = jnp.any(above, axis=-1)
    if observation.candidates is not None:
        empty |= ~jnp.take_along_axis(observation.candidates.mask, chosen, axis=-1)
    return jnp.where(empty, PAD_ID, chosen)
