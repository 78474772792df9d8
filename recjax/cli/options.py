"""How options become a study: the configuration file, and the declared parameters of simulators."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import tyro

from recjax.cli.loop import CONFIG, Run, RunOptions, Study
from recjax.envs import ResponseModel
from recjax.study import StudyConfig

registry = tyro.constructors.ConstructorRegistry()


@registry.struct_rule
def _response_options(info: tyro.constructors.StructTypeInfo) -> tyro.constructors.StructConstructorSpec | None:
    """One option a declared parameter, with its own documentation as help."""
    if info.type is not ResponseModel:
        return None
    default = info.default if isinstance(info.default, ResponseModel) else ResponseModel()
    return tyro.constructors.StructConstructorSpec(
        instantiate=ResponseModel,
        fields=tuple(
            tyro.constructors.StructFieldSpec(
                name=field.name, type=float, default=getattr(default, field.name), helptext=field.metadata["doc"]
            )
            for field in dataclasses.fields(ResponseModel)
        ),
    )


def with_config_file(arguments: list[str], command: Any) -> Any:
    """The ``loop`` command with its options as defaults that come from ``--config``, or from the run to resume."""
    path = _value(arguments, "--config")
    if path is None and "--resume" in arguments:
        saved = Path(_value(arguments, "--out") or RunOptions().out) / CONFIG
        path = str(saved) if saved.is_file() else None
    if path is None:
        return command
    default = StudyConfig.from_json(path)

    def loop_from_file(study: Study = default, run: Run = RunOptions()) -> None:  # noqa: B008 (frozen)
        command(study, run)

    loop_from_file.__doc__ = command.__doc__
    return loop_from_file


def _value(arguments: list[str], option: str) -> str | None:
    """What an option is given, as ``--option value`` or ``--option=value``."""
    for i, argument in enumerate(arguments):
        if argument == option and i + 1 < len(arguments):
            return arguments[i + 1]
        if argument.startswith(option + "="):
            return argument.removeprefix(option + "=")
    return None
