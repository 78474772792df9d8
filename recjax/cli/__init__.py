"""The command line: ``recjax loop | recommend | compare | data``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import tyro
from rich.console import Console

import recjax
from recjax.cli.compare import compare
from recjax.cli.datasets import data
from recjax.cli.loop import loop
from recjax.cli.options import registry, with_config_file
from recjax.cli.recommend import recommend
from recjax.loop import Interrupted

COMMANDS: dict[str, Any] = {"loop": loop, "recommend": recommend, "compare": compare, "data": data}


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command; what is wrong with its input goes to standard error, with exit status 2."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    errors = Console(stderr=True, soft_wrap=True, highlight=False)
    if arguments == ["--version"]:
        print(f"recjax {recjax.__version__}")
        return
    try:
        arguments, default = with_config_file(arguments)
        with registry:
            tyro.extras.subcommand_cli_from_dict(
                COMMANDS if default is None else COMMANDS | {"loop": default},
                args=arguments,
                prog="recjax",
                description="The feedback loop of a recommender as compiled JAX. `recjax loop` needs no arguments.",
                config=(tyro.conf.FlagCreatePairsOff,),
            )
    except Interrupted as stopped:
        errors.print(str(stopped), markup=False)
        raise SystemExit(130) from None
    except ValueError as error:
        errors.print(f"recjax: {error}", markup=False)
        raise SystemExit(2) from None


__all__ = ["main"]
