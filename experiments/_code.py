"""The hash of the code that a script runs: its own, and that of all modules of the repository that it imports."""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def code_hash(script: Path, root: Path = ROOT) -> str:
    """12 hexadecimal digits that change when what the script runs may have changed.

    Args:
      script: a file; modules are looked for in its folder, in the folder above and in ``root``.
      root: the folder of the repository.

    Returns:
      The first digits of a SHA-256 of the syntax trees of the script and of the modules that it imports, these import,
      and so on, those in functions among them. Comments, docstrings and layout do not count, nor do other packages.
    """
    script = script.resolve()
    folders = (script.parent, script.parents[1], root)
    digests: dict[str, str] = {}
    waiting = [script]
    while waiting:
        path = waiting.pop()
        name = path.relative_to(root).as_posix()
        if name not in digests:
            digests[name], imports = _read(path)
            waiting += [found for names in imports for found in _files(names, folders)]
    return hashlib.sha256(repr(sorted(digests.items())).encode()).hexdigest()[:12]


@functools.cache
def _read(path: Path) -> tuple[str, tuple[str, ...]]:
    """The hash of a file and the dotted names that it imports."""
    tree = ast.parse(path.read_bytes())
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"{path} has a relative import in line {node.lineno}; write the module's whole name.")
            # A name may be that of a module, too.
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return hashlib.sha256(repr(_meaning(tree)).encode()).hexdigest(), tuple(dict.fromkeys(names))


def _files(name: str, folders: Sequence[Path]) -> Iterator[Path]:
    """The files that are run when a dotted name is imported: those of its packages, and its own."""
    parts = name.split(".")
    for folder in folders:
        for length in range(1, len(parts) + 1):
            place = folder.joinpath(*parts[:length])
            yield from (path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file())


def _meaning(node: Any) -> Any:
    """A syntax tree without positions, docstrings and what is empty, which differs between versions of Python."""
    if isinstance(node, list):
        return [_meaning(each) for each in node if not _is_text(each)]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = ((name, value) for name, value in ast.iter_fields(node) if value is not None and value != [])
    return [type(node).__name__, *((name, _meaning(value)) for name, value in fields if name != "type_comment")]


def _is_text(node: Any) -> bool:
    """Whether a statement is a string alone: a docstring of a module, class, function or attribute."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
