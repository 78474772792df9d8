"""The options of ``recjax loop``, and how they become a study: the configuration file, the declared parameters.

Nothing here imports JAX, so that the options can be shown at once.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from pathlib import Path
from typing import Annotated, Any

import tyro

from recjax.envs.choice.parameters import ResponseModel
from recjax.study.config import StudyConfig
from recjax.study.presets import preset

CONFIG = "config.json"
"""Where a run keeps its options, below its folder."""


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """Where a run goes and how it is watched; none of this changes its results."""

    out: Path = Path("runs/loop")
    """Where everything is written."""
    resume: bool = False
    """Continue the run in --out, with the configuration that it was started with."""
    overwrite: bool = False
    """Replace the run in --out."""
    config: Path | None = None
    """Read options from this file, JSON as a run writes it to config.json, or TOML; options on the command line
    go before it."""
    preset: str | None = None
    """Start from a named study: long-term, where clicks mislead and users who are not pleased leave soon."""
    schema: Path | None = None
    """Read from this file, JSON or TOML, which columns of your own data file hold what; see schema.json of a run."""
    log: tuple[str, ...] = ("tensorboard",)
    """Where metrics go while the loop runs: tensorboard, csv, jsonl, mlflow, wandb, or a logger you registered."""
    compilation_cache: bool = True
    """Keep compiled programs for the next run, in the user's cache directory."""
    profile: bool = False
    """Write a JAX trace of the run to --out, for TensorBoard or Perfetto. Traces grow quickly; use few steps."""
    quiet: bool = False
    """Show no progress, only the tables."""


Study = Annotated[StudyConfig, tyro.conf.arg(name="")]
Run = Annotated[RunOptions, tyro.conf.arg(name="")]


def loop(study: Study, run: Run) -> None:
    """Close the loop over a catalogue and compare policies in it: fetch, represent, simulate, learn, report."""
    from recjax.cli.loop import run_loop

    run_loop(study, run)


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
    """A command whose options of a study start from ``--config``, ``--preset``, or the run to resume.

    Raises:
      ValueError: both are given, there is no such preset, or the file cannot be read.
    """
    default = _starting_point(arguments)
    if default is None:
        return command
    parameters = inspect.signature(command, eval_str=True).parameters
    study = parameters["study"].replace(default=default, kind=inspect.Parameter.KEYWORD_ONLY)

    @functools.wraps(command)
    def with_defaults(**options: Any) -> None:
        command(**options)

    others = (parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters.values())
    with_defaults.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [study if parameter.name == "study" else parameter for parameter in others]
    )
    return with_defaults


def _starting_point(arguments: list[str]) -> StudyConfig | None:
    path, name = _value(arguments, "--config"), _value(arguments, "--preset")
    if path is not None and name is not None:
        raise ValueError(f"Both --config {path} and --preset {name} say where options start; give one of them.")
    if path is None and "--resume" in arguments:
        saved = Path(_value(arguments, "--out") or RunOptions().out) / CONFIG
        path = str(saved) if saved.is_file() else None
    if path is not None:
        return StudyConfig.read(path)
    return None if name is None else preset(name)


def _value(arguments: list[str], option: str) -> str | None:
    """What an option is given, as ``--option value`` or ``--option=value``."""
    for i, argument in enumerate(arguments):
        if argument == option and i + 1 < len(arguments):
            return arguments[i + 1]
        if argument.startswith(option + "="):
            return argument.removeprefix(option + "=")
    return None
