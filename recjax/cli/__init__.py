"""The command line: ``recjax loop | recommend | compare | data``."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Sequence
from typing import Any

import recjax

COMMANDS = {
    "loop": ("recjax.cli.loop", "loop"),
    "recommend": ("recjax.cli.recommend", "recommend"),
    "compare": ("recjax.cli.compare", "compare"),
    "data": ("recjax.cli.datasets", "data"),
}
"""Module and function of each command; only the one that is called is imported."""

DESCRIPTION = "The feedback loop of a recommender as compiled JAX. `recjax loop` needs no arguments."


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command; what is wrong with its input goes to standard error, with exit status 2."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments == ["--version"]:
        print(f"recjax {recjax.__version__}")
        return
    try:
        _dispatch(arguments)
    except KeyboardInterrupt as stopped:
        if not str(stopped):
            raise
        _say(str(stopped))
        raise SystemExit(130) from None
    except ValueError as error:
        _say(f"recjax: {error}")
        raise SystemExit(2) from None
    except RuntimeError as error:
        if type(error).__module__.split(".")[0] != "recjax":
            raise
        _say(f"recjax: {error}")
        raise SystemExit(1) from None


def _dispatch(arguments: list[str]) -> None:
    import tyro

    name = arguments[0] if arguments and arguments[0] in COMMANDS else None
    options: dict[str, Any] = {"config": (tyro.conf.FlagCreatePairsOff,)}
    if name is None:
        every = {command: _function(command) for command in COMMANDS}
        tyro.extras.subcommand_cli_from_dict(every, args=arguments, prog="recjax", description=DESCRIPTION, **options)
        return
    types: Any = contextlib.nullcontext()
    command = _function(name)
    if name == "loop":
        from recjax.cli.options import registry, with_config_file

        command, types = with_config_file(arguments, command), registry
    with types:
        tyro.cli(command, args=arguments[1:], prog=f"recjax {name}", **options)


def _function(name: str) -> Any:
    module, function = COMMANDS[name]
    return getattr(importlib.import_module(module), function)


def _say(text: str) -> None:
    from recjax.cli.terminal import Terminal

    Terminal(stderr=True, soft_wrap=True).print(text)


__all__ = ["main"]
