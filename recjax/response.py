"""What users answer to a slate: named signals, declared by the environment that sends them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import jax

Per = Literal["slot", "slate"]


@dataclasses.dataclass(frozen=True)
class Signal:
    """One kind of answer, such as a click or a like.

    Attributes:
      name: its key in a :class:`Response`.
      doc: what it counts, as a report defines it.
      unit: of one value.
      per: whether there is one value a "slot", ``f32[..., K]``, or one a "slate", ``f32[...]``.
      is_flag: whether every value is 0 or 1, so that replay may store it in a byte.
    """

    name: str
    doc: str
    unit: str = "1"
    per: Per = "slot"
    is_flag: bool = False

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ValueError(f"Signal.name is {self.name!r}; it must be a Python identifier, such as 'like'.")
        if self.per not in ("slot", "slate"):
            raise ValueError(f"Signal.per is {self.per!r}; choose 'slot' or 'slate'.")


CLICK = Signal("click", "1 where the slot was clicked", is_flag=True)
CONVERSION = Signal("conversion", "1 where a click became a purchase", is_flag=True)
SATISFACTION = Signal("satisfaction", "Satisfaction with a consumed slot, in [0, 1]; 0 where nothing was consumed")
WATCH_TIME = Signal("watch_time", "Time spent on a slot; 0 where it was not consumed", unit="s")


@jax.tree_util.register_pytree_with_keys_class
class Response(Mapping[str, jax.Array]):
    """A user's answer to a slate: an immutable mapping from signal names to arrays, and a pytree.

    Values have shape ``f32[..., K]`` (one a slot) or ``f32[...]`` (one a slate), as the
    :class:`Signal` of that name says. Which signals there are is part of the structure of the
    pytree, so a compiled function sees it.

    >>> import jax.numpy as jnp
    >>> response = Response(click=jnp.array([1.0, 0.0]), like=jnp.array([1.0, 0.0]), conversion=None)
    >>> list(response), response["like"].tolist()
    (['click', 'like'], [1.0, 0.0])
    >>> response.signal("watch_time")
    Traceback (most recent call last):
    ...
    ValueError: There is no signal 'watch_time' in this response; it has: click, like.
    """

    __slots__ = ("_values",)
    # Arrays have no truth value, so responses are compared by identity.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __init__(self, **signals: Any) -> None:
        """Names the signals; those that are None are left out."""
        self._values = {name: signals[name] for name in sorted(signals) if signals[name] is not None}

    def __getitem__(self, name: str) -> jax.Array:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Response({', '.join(f'{name}={value!r}' for name, value in self._values.items())})"

    def signal(self, name: str) -> jax.Array:
        """The values of a signal.

        Raises:
          ValueError: the response has no signal of that name.
        """
        if name not in self._values:
            raise ValueError(
                f"There is no signal {name!r} in this response; it has: {', '.join(self._values) or 'none'}."
            )
        return self._values[name]

    def tree_flatten_with_keys(self) -> tuple[list[tuple[Any, Any]], tuple[str, ...]]:
        """For :mod:`jax.tree_util`."""
        return [(jax.tree_util.GetAttrKey(name), value) for name, value in self._values.items()], tuple(self._values)

    @classmethod
    def tree_unflatten(cls, names: tuple[str, ...], values: Iterable[Any]) -> Response:
        """For :mod:`jax.tree_util`."""
        made = object.__new__(cls)
        made._values = dict(zip(names, values, strict=True))
        return made
