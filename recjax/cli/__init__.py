"""The command line: ``recjax loop | recommend | compare | sweep | evaluate | data``."""

from __future__ import annotations

import contextlib
import gc
import importlib
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import recjax


class Command(NamedTuple):
    """Where a command is, and what it does; only the one that is called is imported."""

    module: str
    function: str
    summary: str


COMMANDS = {
    "loop": Command(
        "recjax.cli.options",
        "loop",
        "Close the loop over a catalogue and compare policies in it: fetch, represent, simulate, learn, report.",
    ),
    "recommend": Command(
        "recjax.cli.recommend",
        "recommend",
        "Recommend items to users, with scores and the items of their history that each follows from.",
    ),
    "compare": Command(
        "recjax.cli.compare",
        "compare",
        "Put finished runs side by side: their policies, what separates them, and the options in which they differ.",
    ),
    "sweep": Command(
        "recjax.cli.sweep",
        "sweep",
        "Run one policy under many values of options, and rank them: a grid, at random, or with Optuna.",
    ),
    "evaluate": Command(
        "recjax.cli.evaluate",
        "evaluate",
        "Estimate what policies would earn, from a log of another one that tells its probabilities.",
    ),
    "data": Command(
        "recjax.cli.datasets",
        "data",
        "List the named data sets, fetch their files, or describe what is in them or in your own files.",
    ),
}

DESCRIPTION = "The feedback loop of a recommender as compiled JAX. `recjax loop` needs no arguments."

GARBAGE_THRESHOLDS = 200_000, 30, 30
"""Of Python's garbage collector. Tracing makes very many objects that stay, and by default it looks through all of them
again and again."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command; what is wrong with its input goes to standard error, with exit status 2."""
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments == ["--version"]:
        print(f"recjax {recjax.__version__}")
        return
    try:
        _dispatch(arguments)
    except KeyboardInterrupt as stopped:
        _stop(str(stopped) or "recjax: stopped.", 130)
    except ValueError as error:
        _stop(f"recjax: {error}", 2)
    except OSError as error:
        _stop(f"recjax: {error.strerror or error}{f': {error.filename}' if error.filename else ''}", 1)
    except MemoryError as error:
        _stop(f"recjax: there is not enough memory. {error}".rstrip(), 1)
    except RuntimeError as error:
        known = type(error).__module__.split(".")[0] == "recjax"
        if not known and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        _stop(f"recjax: {error}", 1)


def _dispatch(arguments: list[str]) -> None:
    import tyro

    name = arguments[0] if arguments and arguments[0] in COMMANDS else None
    options: dict[str, Any] = {"config": (tyro.conf.FlagCreatePairsOff,)}
    if name is None:
        # Completion needs every option of every command, help and a word that is no command only their names.
        whole = any(argument.startswith("--tyro-") for argument in arguments)
        every = {name: _function(name) if whole else _summary(command) for name, command in COMMANDS.items()}
        with _types() if whole else contextlib.nullcontext():
            tyro.extras.subcommand_cli_from_dict(
                every, args=arguments, prog="recjax", description=DESCRIPTION, **options
            )
        return
    command = _function(name)
    if name in ("loop", "sweep"):
        from recjax.cli.options import with_config_file

        command = with_config_file(arguments, command)
    from recjax.interrupt import answered_interrupts

    with _types(), answered_interrupts():
        tyro.cli(command, args=arguments[1:], prog=f"recjax {name}", **options)


def _function(name: str) -> Any:
    return getattr(importlib.import_module(COMMANDS[name].module), COMMANDS[name].function)


def _summary(command: Command) -> Callable[[], None]:
    """Stands in for a command where its options do not matter."""

    def described() -> None: ...

    described.__doc__ = command.summary
    return described


def _types() -> Any:
    from recjax.cli.options import registry

    return registry


def _stop(text: str, status: int) -> None:
    from recjax.cli.terminal import Terminal

    Terminal(stderr=True, soft_wrap=True).print(text)
    raise SystemExit(status) from None


__all__ = ["main"]
