"""Acting and responding: one step of interaction of many users, and cohorts that are followed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from recjax.agents.base import Action, Agent
from recjax.envs.base import Environment
from recjax.rewards import Reward
from recjax.types import PAD_ID, Array, Observation, PyTree, Revealed, Step, shown_items

ARRIVALS = 16
"""One in so many users is drawn at a time in the place of users who leave; more leavers take several draws."""


USERS_AT_ONCE = 1024
"""Users who act and respond together on a CPU: what lies between stays in its caches, however many users there are."""

STAYING_BLOCKS, FEWEST_STAYING = 4, 32
"""Blocks of a cohort that is followed on a CPU, of which those are left out in which nobody stays; and their size."""

ACCELERATED_USERS = 2**18
"""The same elsewhere, where large products beat many small ones."""


def traced_once(function: Callable[..., Any], *static: str) -> Callable[..., Any]:
    """The function, traced once for all programs that call it with the same shapes; XLA compiles it in each of them.

    Checks, chunks and evaluation call the same functions of agent and environment, and tracing them is most of
    what a program costs that XLA has compiled in an earlier process.

    Args:
      function: pure; one that cannot be hashed is traced anew by each program.
      *static: names of its arguments that are no arrays.
    """
    if not isinstance(function, Hashable):
        return function
    try:
        return jax.jit(function, static_argnames=static)
    except ValueError:
        # It has no argument of that name. Calling it says so in Python's words, which are more to the point.
        return function


@struct.dataclass
class Users:
    """The users being served: what is seen of them, and what is not."""

    observation: Observation
    state: PyTree


def arrive(env: Environment, key: Array, params: PyTree, world: PyTree, count: int) -> Users:
    """New users."""

    def draw(keys: Array, numbers: Array) -> Users:
        of_each = jax.random.split(keys[0], numbers.shape[0])
        return Users(*jax.vmap(traced_once(env.reset), in_axes=(0, None, None))(of_each, params, world))

    return in_blocks(draw, key[None], jnp.arange(count))


def respond(
    env: Environment, reward: Reward, keys: Array, users: Users, action: Action, params: PyTree, world: PyTree
) -> tuple[Users, Step]:
    """The users after what each was shown, by a key for each, and the step; nobody comes for those who are done."""
    each = jax.vmap(traced_once(env.step), in_axes=(0, 0, 0, None, None))
    observation, state, response, terminated, truncated, _ = each(keys, users.state, action.slate, params, world)
    step = Step(
        observation=users.observation,
        slate=action.slate,
        log_prob=action.log_prob,
        extras=action.extras,
        response=response,
        reward=reward(response),
        terminated=terminated,
        truncated=truncated,
        next_observation=observation,
    )
    return Users(observation=observation, state=state), step


@jax.custom_batching.custom_vmap
def of_all_seeds(number: Array) -> Array:
    """The largest of the numbers of all seeds, ``i32[]``; of one seed that is ``number`` itself.

    A loop that ends by it ends for all seeds at once. Otherwise ``vmap`` would choose between old and new values of
    everything that the loop carries, seed by seed and each time around.
    """
    return number


@of_all_seeds.def_vmap
def _(axis_size: int, in_batched: list[bool], numbers: Array) -> tuple[Array, bool]:
    del axis_size
    return (jnp.max(numbers, axis=0) if in_batched[0] else numbers), False


class Interaction(NamedTuple):
    """An environment, an agent and a reward, as functions of keys and states.

    Attributes:
      env: the environment.
      agent: the agent.
      reward: function of the response, ``f32[..., K]``.
    """

    env: Environment
    agent: Agent
    reward: Reward

    def arrive(self, key: Array, params: PyTree, world: PyTree, count: int) -> Users:
        """New users."""
        return arrive(self.env, key, params, world, count)

    def step(
        self, key: Array, users: Users, agent: PyTree, params: PyTree, world: PyTree, *, explore: bool
    ) -> tuple[Users, Step]:
        """Act and respond, once for every user; those who are done make room for new ones."""
        keys = jax.random.split(key, 3)
        going, step = self.serve(keys[:2], users, agent, params, world, explore=explore)
        return self.replace(keys[2], going, step.terminated | step.truncated, params, world), step

    def serve(
        self,
        keys: Array,
        users: Users,
        agent: PyTree,
        params: PyTree,
        world: PyTree,
        *,
        explore: bool,
        staying: Array | None = None,
    ) -> tuple[Users, Step]:
        """Act and respond, by a key for each, once for every user; those who are done stay where they are.

        Args:
          keys: of acting and of responding.
          users: leaves ``[U, ...]``.
          agent: the agent's state.
          params: of the environment.
          world: what changes for all users.
          explore: whether the agent explores.
          staying: ``bool[U]``, who is served; all if None. Users who have left cost little.
        """

        def act_and_respond(key: Array, each: tuple[Users, Array]) -> tuple[Users, Step]:
            users, own = each
            seen = (
                Revealed(users.observation, users.state, params, world) if self.agent.is_oracle else users.observation
            )
            action = traced_once(self.agent.act, "explore")(key[0], agent, seen, explore=explore)
            going, step = respond(self.env, self.reward, own, users, action, params, world)
            # What is seen before and after is there already.
            return going, dataclasses.replace(step, observation=None, next_observation=None)  # type: ignore[arg-type]

        # Of its own chance each user keeps the same, whoever is served beside.
        each = users, jax.random.split(keys[1], users.observation.history.shape[0])
        if staying is None:
            going, step = in_blocks(act_and_respond, keys[:1], each)
        else:
            going, step = of_staying(act_and_respond, keys[:1], each, staying)
        return going, dataclasses.replace(step, observation=users.observation, next_observation=going.observation)

    def replace(self, key: Array, users: Users, done: Array, params: PyTree, world: PyTree) -> Users:
        """New users in the rows of those who are done, drawn a few at a time: arrivals cost what arrives.

        Args:
          key: a key of ``jax.random``.
          users: leaves ``[U, ...]``.
          done: ``bool[U]``.
          params: of the environment.
          world: what changes for all users.
        """
        count = done.shape[0]
        few = -(-count // ARRIVALS)
        number = jnp.cumsum(done, dtype=jnp.int32) - 1
        last = of_all_seeds(number[-1])

        def arrivals(drawn: Array, users: Users) -> Users:
            """Those of number ``drawn .. drawn + few - 1``."""
            new = self.arrive(jax.random.fold_in(key, drawn), params, world, few)
            place = jnp.where(done & (number >= drawn), number - drawn, few)
            rows = jnp.full(few, count).at[place].set(jnp.arange(count), mode="drop", unique_indices=True)
            return jax.tree.map(lambda x, y: x.at[rows].set(y, mode="drop", unique_indices=True), users, new)

        # A loop rather than a branch, which under vmap over seeds would always be taken.
        return jax.lax.while_loop(
            lambda carry: carry[0] <= last,
            lambda carry: (carry[0] + few, arrivals(*carry)),
            (jnp.int32(0), users),
        )[1]

    def tick(self, key: Array, world: PyTree, step: Step, params: PyTree) -> PyTree:
        """The world after a step whose slates hold items."""
        return world if self.env.tick is None else self.env.tick(key, world, step, params)


def in_blocks(function: Callable[[Array, Any], Any], keys: Array, users: PyTree) -> Any:
    """A function of many users, a block of them at a time: memory between its parts does not grow with users.

    Args:
      function: ``(keys, leaves [B, ...]) -> leaves [B, ...]``, each row of its own user alone.
      keys: typed PRNG keys ``[n]``; each block has others, and few users have these.
      users: leaves ``[U, ...]``.

    Returns:
      Leaves ``[U, ...]``. The last block reaches back to have the size of all; who was in two is of the last.
    """
    count = jax.tree.leaves(users)[0].shape[0]
    blocks = -(-count // (USERS_AT_ONCE if jax.default_backend() == "cpu" else ACCELERATED_USERS))
    if blocks == 1:
        return function(keys, users)
    size = -(-count // blocks)

    def block(start: Array) -> Any:
        own = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, start)
        return function(own, jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, start, size), users))

    def write(made: Any, start: Array) -> tuple[Any, None]:
        # Not over the users themselves: XLA would copy all of them for each block.
        place = lambda whole, rows: jax.lax.dynamic_update_slice_in_dim(whole, rows, start, axis=0)  # noqa: E731
        return jax.tree.map(place, made, block(start)), None

    starts = jnp.minimum(jnp.arange(0, count, size), count - size)
    blank = jax.tree.map(lambda x: jnp.zeros((count, *x.shape[1:]), x.dtype), jax.eval_shape(block, starts[0]))
    return jax.lax.scan(write, blank, starts)[0]


def of_staying(
    function: Callable[[Array, Any], tuple[Users, Step]], keys: Array, each: tuple[Users, Array], staying: Array
) -> tuple[Users, Step]:
    """A function of users, for those who stay: on a CPU it costs what they are, a block of them at a time.

    Args:
      function: as for :func:`in_blocks`, to the users afterwards and the step.
      keys: typed PRNG keys ``[n]``; each block has others.
      each: users, and what else the function takes of each, leaves ``[U, ...]``.
      staying: ``bool[U]``.

    Returns:
      The users, among whom those who have left are as they were, and the step, which is zero for these.
    """
    count = staying.shape[0]
    if jax.default_backend() != "cpu" or count < 2 * FEWEST_STAYING:
        return in_blocks(function, keys, each)
    size = min(USERS_AT_ONCE, max(FEWEST_STAYING, -(-count // STAYING_BLOCKS)))
    # Whoever stays comes first, and nobody else at all.
    order = jnp.where(jnp.sort(~staying), count, jnp.argsort(~staying))
    order = jnp.pad(order, (0, -count % size), constant_values=count)
    number = of_all_seeds(jnp.sum(staying))

    def block(carry: tuple[Array, Any]) -> tuple[Array, Any]:
        start, found = carry
        rows = jax.lax.dynamic_slice_in_dim(order, start, size)
        some = jax.tree.map(lambda x: x[jnp.minimum(rows, count - 1)], each)
        made = function(jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, start), some)
        put = lambda whole, new: whole.at[rows].set(new, mode="drop", unique_indices=True)  # noqa: E731
        return start + size, jax.tree.map(put, found, made)

    step = jax.eval_shape(function, keys, each)[1]
    found: Any = each[0], jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), step)
    return jax.lax.while_loop(lambda carry: carry[0] < number, block, (jnp.int32(0), found))[1]


Visit = Callable[[Any, Step, Array], tuple[Any, Any]]
"""``(carry, step, staying bool[B]) -> (carry, output)``; slates hold items, and nothing of users who have left."""


def follow(
    interaction: Interaction,
    agent: PyTree,
    users: Users,
    world: PyTree,
    keys: tuple[Array, Array],
    visit: Visit,
    carry: Any,
    *,
    explore: bool,
) -> tuple[Any, Any]:
    """Follows a cohort of users until they leave; nobody takes their place.

    Args:
      interaction: who meets whom.
      agent: the agent's state, which stays as it is.
      users: ``B`` of them, who have just arrived.
      world: what changes for all users.
      keys: of acting and responding, and of the world, each ``[steps]``.
      visit: called with each step.
      carry: what ``visit`` begins with.
      explore: whether the agent explores.

    Returns:
      ``(carry, outputs)``, outputs stacked over steps.
    """
    env = interaction.env

    def body(state: tuple, keys: tuple[Array, Array]) -> tuple[tuple, Any]:
        users, world, staying, carry = state
        both = jax.random.split(keys[0])
        users, step = interaction.serve(both, users, agent, env.params, world, explore=explore, staying=staying)
        step = absent(with_items(step), staying)
        world = interaction.tick(keys[1], world, step, env.params)
        carry, output = visit(carry, step, staying)
        return (users, world, staying & ~(step.terminated | step.truncated), carry), output

    count = users.observation.history.shape[0]
    begun: Any = users, world, jnp.ones(count, bool), carry
    (*_, carry), outputs = jax.lax.scan(body, begun, keys)
    return carry, outputs


def with_items(step: Step) -> Step:
    """A step whose slates hold items, also where the agent chose positions in candidates."""
    if step.observation.candidates is None:
        return step
    return dataclasses.replace(step, slate=shown_items(step.slate, step.observation))


def absent(step: Step, staying: Array) -> Step:
    """A step without the users who have left, and whose row goes on unobserved."""
    seen = staying[:, None]
    here = lambda x: jnp.where(staying.reshape(staying.shape + (1,) * (x.ndim - 1)), x, 0)  # noqa: E731
    is_slate = jnp.issubdtype(step.slate.dtype, jnp.integer)
    return dataclasses.replace(
        step,
        slate=jnp.where(seen, step.slate, PAD_ID if is_slate else 0),
        response=jax.tree.map(here, step.response),
        reward=here(step.reward),
    )
