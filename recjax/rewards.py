"""Rewards as functions of a response: what a platform decides to want.

A reward maps a :class:`~recjax.types.Response` to ``f32[..., K]``, one value a slot.
Environments return responses, never rewards, so the same log can be rewarded anew.
"""

from __future__ import annotations

from collections.abc import Callable

from recjax.registry import Registry
from recjax.types import Array, Response

Reward = Callable[[Response], Array]

rewards: Registry = Registry("reward")
register = rewards.register

FIELDS = ("click", "conversion", "satisfaction", "watch_time")


def _field(response: Response, name: str) -> Array:
    value = getattr(response, name)
    if value is None:
        present = [field for field in FIELDS if getattr(response, field) is not None]
        raise ValueError(
            f"The reward uses {name!r}, which this environment does not answer with."
            f" It answers with: {', '.join(present)}."
        )
    return value


@register("click")
def click(response: Response) -> Array:
    """1 for a clicked slot."""
    return _field(response, "click")


@register("conversion")
def conversion(response: Response) -> Array:
    """1 for a slot whose click became a purchase."""
    return _field(response, "conversion")


@register("satisfaction")
def satisfaction(response: Response) -> Array:
    """The satisfaction, in [0, 1], with a consumed slot."""
    return _field(response, "satisfaction")


@register("watch_time")
def watch_time(response: Response) -> Array:
    """Seconds spent on a slot."""
    return _field(response, "watch_time")


def weighted(**weights: float) -> Reward:
    """A weighted sum of response fields.

    Args:
      **weights: weight of each response field (``click``, ``conversion``,
        ``satisfaction``, ``watch_time``).

    Raises:
      ValueError: no weights, or a field that responses do not have.

    >>> import jax.numpy as jnp
    >>> reward = weighted(click=1.0, conversion=5.0)
    >>> reward(Response(click=jnp.array([1.0, 1.0]), conversion=jnp.array([0.0, 1.0]))).tolist()
    [1.0, 6.0]
    """
    unknown = [name for name in weights if name not in FIELDS]
    if unknown or not weights:
        raise ValueError(f"A weighted reward needs weights for some of {FIELDS}; got {weights or 'none'}.")

    def reward(response: Response) -> Array:
        terms = [weight * _field(response, name) for name, weight in weights.items()]
        return sum(terms[1:], start=terms[0])

    return reward


def parse(text: str) -> Reward:
    """A reward from a configuration: a registered name, or ``field=weight,field=weight``.

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
