"""Names for things that can be chosen from a configuration or a command line."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Registry(Generic[T]):
    """Named factories (or other things) of one kind; names are unique, and unknown ones raise errors that help.

    >>> agents = Registry("agent")
    >>> @agents.register("echo")
    ... def echo(value=1):
    ...     return value
    >>> agents.make("echo", value=3)
    3
    >>> agents.make("ecko")
    Traceback (most recent call last):
    ...
    ValueError: There is no agent named 'ecko'. Registered: 'echo'. Did you mean 'echo'?
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._factories: dict[str, T] = {}

    def register(self, name: str, factory: T | None = None) -> Any:
        """Registers ``factory`` under ``name``; without a factory, returns a decorator.

        Raises:
          ValueError: the name is taken or empty.
        """
        if factory is None:
            return lambda decorated: self.register(name, decorated)
        if not name:
            raise ValueError(f"The name of a registered {self.kind} must not be empty.")
        if self._factories.get(name, factory) is not factory:
            raise ValueError(f"A {self.kind} named {name!r} is registered already; choose another name.")
        self._factories[name] = factory
        return factory

    def __getitem__(self, name: str) -> T:
        if name not in self._factories:
            close = difflib.get_close_matches(name, self._factories, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            known = ", ".join(repr(n) for n in self._factories)
            raise ValueError(f"There is no {self.kind} named {name!r}. Registered: {known}.{hint}")
        return self._factories[name]

    def make(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Calls the factory registered under ``name``."""
        factory: Any = self[name]
        return factory(*args, **kwargs)

    def __iter__(self) -> Iterator[str]:
        return iter(self._factories)

    def __contains__(self, name: object) -> bool:
        return name in self._factories
