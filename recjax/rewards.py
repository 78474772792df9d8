"""Rewards as functions of a response: what a platform decides to want.

A reward maps a :class:`~recjax.types.Response` to ``f32[..., K]``, one value a slot.
Environments return responses, never rewards, so the same log can be rewarded anew. A reward
may use any signal that the environment declares (``Spec.signals``).
"""

from __future__ import annotations

from collections.abc import Callable

from recjax.registry import Registry
from recjax.response import Response
from recjax.types import Array

Reward = Callable[[Response], Array]

rewards: Registry = Registry("reward")
register = rewards.register


@register("click")
def click(response: Response) -> Array:
    """1 for a clicked slot."""
    return response.signal("click")


@register("conversion")
def conversion(response: Response) -> Array:
    """1 for a slot whose click became a purchase."""
    return response.signal("conversion")


@register("satisfaction")
def satisfaction(response: Response) -> Array:
    """The satisfaction, in [0, 1], with a consumed slot."""
    return response.signal("satisfaction")


@register("watch_time")
def watch_time(response: Response) -> Array:
    """Seconds spent on a slot."""
    return response.signal("watch_time")


@register("revenue")
def revenue(response: Response) -> Array:
    """The price of what was bought in a slot."""
    return response.signal("revenue")


def weighted(**weights: float) -> Reward:
    """A weighted sum of signals.

    Args:
      **weights: weight of each signal, such as ``click``, ``conversion`` or any other that the environment
        declares.

    Raises:
      ValueError: no weights; when the reward is computed, a signal that the response does not have.

    >>> import jax.numpy as jnp
    >>> reward = weighted(click=1.0, conversion=5.0)
    >>> reward(Response(click=jnp.array([1.0, 1.0]), conversion=jnp.array([0.0, 1.0]))).tolist()
    [1.0, 6.0]
    """
    if not weights:
        raise ValueError("A weighted reward needs a weight for at least one signal, e.g. weighted(click=1.0).")

    def reward(response: Response) -> Array:
        terms = [weight * response.signal(name) for name, weight in weights.items()]
        return sum(terms[1:], start=terms[0])

    return reward


def parse(text: str) -> Reward:
    """A reward from a configuration: a registered name, or ``signal=weight,signal=weight``.

    >>> import jax.numpy as jnp
    >>> parse("click=1,satisfaction=0.5")(
    ...     Response(click=jnp.ones(1), satisfaction=jnp.ones(1))
    ... ).tolist()
    [1.5]

    Raises:
      ValueError: the name is not registered, or a weight is not a number.
    """
    if "=" not in text:
        return rewards[text]
    weights = {}
    for term in text.split(","):
        name, _, weight = term.partition("=")
        try:
            weights[name.strip()] = float(weight)
        except ValueError:
            raise ValueError(
                f"In the reward {text!r}, {weight!r} is not a number; write e.g. click=1,conversion=5."
            ) from None
    return weighted(**weights)
