"""A pole on a cart: the control problem on which agents of any kind are known to work."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import struct

from recjax.envs import Environment, Transition
from recjax.types import PAD_ID, Array, Items, Observation, PyTree, Response, Signal, Spec

GRAVITY, CART_MASS, POLE_MASS, HALF_LENGTH = 9.8, 1.0, 0.1, 0.5
"""m/s², kg, kg, and m from the pivot to the middle of the pole."""

FORCE, SECONDS = 10.0, 0.02
"""N of a push, and s between two of them."""

LIMITS = 2.4, math.radians(12)
"""m that the cart may be away from the middle, and rad that the pole may lean."""


@struct.dataclass
class State:
    """``f32[4]`` position, velocity, angle, angular velocity; ``i32[]`` pushes so far."""

    motion: Array
    steps: Array


def cart_pole(*, max_steps: int = 500) -> Environment:
    """The cart and pole of Barto, Sutton and Anderson, as Gymnasium's ``CartPole-v1`` has it.

    Item 0 pushes the cart to the left and item 1 to the right, with ``F = ∓10``. With the angle ``θ`` of the pole, the
    mass of both ``M = 1.1``, of the pole ``m = 0.1`` and half its length ``l = 0.5``:

    * ``u = (F + m l θ'² sin θ) / M``
    * ``θ'' = (9.8 sin θ - u cos θ) / (l (4/3 - m cos² θ / M))``
    * ``x'' = u - m l θ'' cos θ / M``

    and one Euler step of 0.02 s, positions first. The signal "reward" is 1 for every push; ``Observation.context`` is
    ``(x, x', θ, θ')``, which begins uniform in ±0.05. An episode is terminated once the cart is further than 2.4 from
    the middle or the pole leans more than 12 degrees, and truncated after ``max_steps``. So 500 is the most that can be
    earned; 475 on average counts as solved.

    References:
      Barto, Sutton, Anderson, "Neuronlike adaptive elements that can solve difficult learning control problems", 1983;
      Florian, "Correct equations for the dynamics of the cart-pole system", 2007, without friction.

    Raises:
      ValueError: ``max_steps`` is below 1.
    """
    if max_steps < 1:
        raise ValueError(f"max_steps is {max_steps}; it must be at least 1.")
    reward = Signal("reward", "1 for every push")
    return Environment(
        spec=Spec(num_items=2, slate_size=1, history_length=1, context_size=4, signals=(reward,)),
        params=jnp.int32(max_steps),
        items=Items(popularity=jnp.ones(2), is_new=jnp.zeros(2, bool)),
        reset=_reset,
        step=_step,
    )


def moved(motion: Array, force: Array) -> Array:
    """The motion ``f32[4]`` after a push."""
    _, speed, angle, spin = motion
    sine, cosine, mass = jnp.sin(angle), jnp.cos(angle), CART_MASS + POLE_MASS
    pushed = (force + POLE_MASS * HALF_LENGTH * spin**2 * sine) / mass
    inertia = HALF_LENGTH * (4 / 3 - POLE_MASS * cosine**2 / mass)
    spun = (GRAVITY * sine - pushed * cosine) / inertia
    sped = pushed - POLE_MASS * HALF_LENGTH * spun * cosine / mass
    return motion + SECONDS * jnp.stack([speed, sped, spin, spun])


def _seen(state: State) -> Observation:
    nothing = jnp.full(1, PAD_ID, jnp.int32)
    return Observation(history=nothing, behaviour=nothing, context=state.motion)


def _reset(key: Array, params: Array, world: PyTree) -> tuple[Observation, State]:
    state = State(jax.random.uniform(key, (4,), minval=-0.05, maxval=0.05), jnp.int32(0))
    return _seen(state), state


def _step(key: Array, state: State, slate: Array, params: Array, world: PyTree) -> Transition:
    after = State(moved(state.motion, jnp.where(slate[0] == 1, FORCE, -FORCE)), state.steps + 1)
    terminated = (jnp.abs(after.motion[0]) > LIMITS[0]) | (jnp.abs(after.motion[2]) > LIMITS[1])
    truncated = (after.steps >= params) & ~terminated
    return Transition(_seen(after), after, Response(reward=jnp.ones(1)), terminated, truncated, {})
