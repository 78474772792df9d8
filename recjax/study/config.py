"""The configuration of a study: what ``recjax loop`` takes, and what a run's ``config.json`` reproduces."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import tyro

from recjax.data.log_schema import LogSchema
from recjax.envs.choice.parameters import ResponseModel
from recjax.envs.preference_config import PreferenceConfig
from recjax.loop.config import LoopConfig
from recjax.models.sequence.config import TwoTowerConfig

POLICIES = (
    "random", "popularity", "quality", "quality_rested", "greedy", "next_item", "supervised", "similarity_prior",
    "myopic", "slate_q",
)  # fmt: skip
"""The policies of a study unless told otherwise."""


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """The representations that the supervised model and the Q-network share."""

    dim: int = 32
    """Width of user and item vectors."""
    encoder: str = "attention"
    """How a history becomes a user vector: mean, gru, attention, bidirectional or hstu."""
    temperature: float = 0.1
    """Divides the cosine of user and item in the softmax of the supervised model."""
    q_network: str = "dot_product"
    """Of DQN: dot_product (scaled cosine plus values of state and item), dueling_dot_product, mlp, dueling_mlp, or with
    distributions quantile_dot_product, categorical_dot_product."""

    def __post_init__(self) -> None:
        if self.dim < 1:
            raise ValueError(f"NetworkConfig.dim is {self.dim}; it must be at least 1.")
        if not self.temperature > 0:
            raise ValueError(f"NetworkConfig.temperature is {self.temperature}; it must be above 0.")


@dataclasses.dataclass(frozen=True)
class LearnConfig:
    """How the policies that learn in the loop do so."""

    discount: float = 0.95
    """γ of the policies that look ahead: what a reward is worth one slate later. Their myopic twins have 0."""
    n_step: int = 3
    """Rewards that are added up before the target network is asked for the rest."""
    double: bool = True
    """Whether the online network chooses the item that the target network values (double DQN)."""
    loss: str = "huber"
    """Of the TD error: huber or mse."""
    supervised_weight: float = 0.1
    """Of the loss of predicting clicks beside the TD loss, in the policy ``joint``."""
    learning_rate: float = 1e-3
    """Of Adam, for the Q-network and for the supervised model that is retrained in the loop."""
    schedule: str = "constant"
    """How the learning rate changes over the updates of the loop: constant, or linear or cosine, which end at 0."""
    surrogates: tuple[str, ...] = ()
    """Answers such as satisfaction that foretell what follows; slate_q learns what an item is worth from them."""
    value_unit: float = 1.0
    """Rewards that are 1 in what slate_q learns of values; larger for the values of long sessions."""
    target_period: int = 100
    """Updates between copies of the Q-network to its target."""
    row_wise: bool | None = None
    """Update only the item rows that are read, and keep item vectors (default: where that is faster)."""
    index_every: int = 100
    """Updates between full refreshes of cached item vectors (with row_wise)."""
    negatives: int = 1024
    """Sampled negatives of the supervised model that is retrained in the loop (with row_wise)."""
    exploration: str = "epsilon_greedy"
    """epsilon_greedy or boltzmann."""
    epsilon_start: float = 0.3
    """Share of random slots at the first step."""
    epsilon_end: float = 0.05
    """Share of random slots after epsilon_steps steps."""
    epsilon_steps: int = 200
    """Steps of the environment over which the share falls."""
    boltzmann_temperature: float = 0.1
    """Of Boltzmann exploration, in units of reward."""


@dataclasses.dataclass(frozen=True)
class StudyConfig(LoopConfig):
    """A study: policies compared in a closed loop over one catalogue, from logs to a report."""

    data: str = "ml-100k"
    """Log that is represented and simulated: a data set by name (`recjax data list`), or your own file."""
    data_dir: str | None = None
    """Where data sets lie that you bring yourself (default: the environment variable RECJAX_DATA)."""
    env: str = "logged"
    """User simulator: logged (preference fitted to the data set), synthetic (needs no data), or one you registered."""
    max_events: int = 1_000_000
    """Events that models learn from before the loop; of a bigger log, those of users drawn at random."""
    agent: tuple[str, ...] = POLICIES
    """Policies to compare, by name."""
    eval_users: int = 416
    """Users of an evaluation, the same ones each time, who are never learned from."""
    eval_steps: int = 100
    """Slates shown to every user of an evaluation: as many as a session has."""
    oracles: bool = True
    """Also follow policies that see all that is hidden, where the environment has any: what could be reached."""
    slate_size: int = 5
    """Items shown at once."""
    items: int | str = 1000
    """Your own file: a file with a row for each item (titles, …). Synthetic catalogue: its number of items."""
    reward: str = "click"
    """What policies learn from: click, conversion, satisfaction, or a sum such as click=1,conversion=5."""
    seed: int = 0
    """All randomness of the study follows from it."""
    devices: int = 1
    """Devices among which the seeds are divided; must divide seeds."""
    plugins: tuple[str, ...] = ()
    """Python modules to import first, which register your own environments, policies and rewards."""
    schema: Annotated[LogSchema, tyro.conf.arg(name="")] = dataclasses.field(default_factory=LogSchema)
    preference: PreferenceConfig = dataclasses.field(default_factory=PreferenceConfig)
    network: NetworkConfig = dataclasses.field(default_factory=NetworkConfig)
    training: TwoTowerConfig = dataclasses.field(default_factory=TwoTowerConfig)
    learn: LearnConfig = dataclasses.field(default_factory=LearnConfig)
    response_model: ResponseModel = dataclasses.field(default_factory=ResponseModel)

    @property
    def items_file(self) -> str | None:
        """The file of items, None where there is none."""
        return self.items if isinstance(self.items, str) else None

    @property
    def history_length(self) -> int:
        """Items of a user's past that models and policies see; what the supervised model is trained with."""
        return self.training.history_length

    def recipe(self) -> dict[str, Any]:
        """The options that results follow from, ready for JSON: all but which policies are compared and where."""
        values = json.loads(self.to_json())
        return {name: value for name, value in values.items() if name not in ("agent", "devices")}

    def with_options(self, options: Mapping[str, Any]) -> StudyConfig:
        """The study with other values of some options, those of its parts named as in ``learn.discount``.

        Raises:
          ValueError: an option does not exist, or cannot have the value.
        """
        values = json.loads(self.to_json())
        if "steps" in options:
            values |= {"chunk": 0, "eval_every": 0}
        for name, value in options.items():
            *parts, last = name.split(".")
            inner = values
            for part in parts:
                inner = inner.get(part)
                if not isinstance(inner, dict):
                    raise ValueError(f"{name} is no option of a study; {part!r} has no options of its own.")
            inner[last] = value
        return _build(StudyConfig, values, "option")

    def to_json(self) -> str:
        """The configuration as JSON, as :meth:`read` takes it."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def read(cls, path: str | Path) -> StudyConfig:
        """Reads a configuration: TOML where the name of the file ends in ``.toml``, else JSON.

        Options that the file leaves out keep their defaults.

        Raises:
          ValueError: the file is missing, is no TOML or JSON, or has an option that does not exist.
        """
        kind, parse = ("TOML", tomllib.loads) if Path(path).suffix == ".toml" else ("JSON", json.loads)
        try:
            values = parse(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise ValueError(f"Cannot read the configuration {path}: {error.strerror}.") from None
        except ValueError as error:  # Those of both parsers, and of text that is not UTF-8.
            raise ValueError(f"The configuration {path} is not {kind}: {error}.") from None
        return _build(cls, values, str(path))


def _build(kind: type, values: Any, where: str) -> Any:
    """A dataclass from nested dictionaries, refusing what it does not know."""
    hints = get_type_hints(kind)
    known = {field.name for field in dataclasses.fields(kind)}
    if not isinstance(values, dict) or not set(values) <= known:
        given = sorted(set(values) - known) if isinstance(values, dict) else values
        raise ValueError(f"{where}: {given} is no option of {kind.__name__}; it has {', '.join(sorted(known))}.")
    return kind(**{name: _convert(hints[name], value, f"{where}: {name}") for name, value in values.items()})


def _convert(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, where)  # type: ignore[arg-type]
    if get_origin(hint) is tuple:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise ValueError(f"{where} is {value!r}; it must be a list of names.")
        return tuple(value)
    allowed = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if float in allowed and type(value) is int:
        return float(value)
    if type(value) not in allowed:
        names = " or ".join(getattr(t, "__name__", str(t)) for t in allowed)
        raise ValueError(f"{where} is {value!r}; it must be of type {names}.")
    return value
