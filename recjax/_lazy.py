"""Packages whose contents are imported when they are first used, so that a command line can speak before JAX loads."""

from __future__ import annotations

import ast
import sys
import threading
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

_here = threading.local()
"""``packages``: those whose imports this thread is running."""


class LazyPackage(ModuleType):
    """A package that runs the imports below its ``if TYPE_CHECKING:`` at the first use of any of their names.

    All of them run at once and in order, as they would without it, so that whatever they register is there.
    """

    _imports: CodeType
    _names: frozenset[str]

    def __getattr__(self, name: str) -> Any:
        running: set[str] = _here.__dict__.setdefault("packages", set())
        if name in self._names and self.__name__ not in running:
            running.add(self.__name__)
            try:
                exec(self._imports, self.__dict__)
            finally:
                running.discard(self.__name__)
            return self.__dict__[name]
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        # Importing a module makes it an attribute of its package, which must not hide a function of the same name.
        if not (name in self._names and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*self.__dict__, *self._names})


def lazy(package: str) -> None:
    """Defers the imports below ``if TYPE_CHECKING:`` of a package; to be called in its ``__init__``.

    Type checkers and editors read them where they stand.
    """
    module = sys.modules[package]
    path = str(module.__file__)
    tree = ast.parse(Path(path).read_text(encoding="utf-8"), path)
    (block,) = (
        node.body for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    names = [alias.asname or alias.name for node in block for alias in node.names]  # type: ignore[attr-defined]
    module.__dict__.update(_imports=compile(ast.Module(block, []), path, "exec"), _names=frozenset(names))
    module.__class__ = LazyPackage
