"""Sweeps: one policy under many values of options, all of them under the same arriving users and the same chance."""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from recjax._files import write_text
from recjax.eval import describe
from recjax.fit import Progress
from recjax.loop.config import LoopConfig
from recjax.loop.program import Program
from recjax.loop.run import run_program
from recjax.rewards import parse as parse_reward
from recjax.study.check import check_study, import_plugins
from recjax.study.config import StudyConfig
from recjax.study.policies import Policy, make_policy
from recjax.study.prepare import Prepared, prepare

HYPER_PARAMETERS = tuple(
    f"learn.{name}" for name in ("discount", "epsilon_start", "epsilon_end", "epsilon_steps", "boltzmann_temperature")
)
"""Options that agents read from their state, so that trials differing in them alone run side by side."""

TUNABLE = ("slate_q", "dqn", "joint", "supervised")
"""Policies whose agents have them."""

NOT_PREPARED = {"agent", "reward", "devices", "learn", *(field.name for field in dataclasses.fields(LoopConfig))}
"""Options that what a loop starts from does not follow from."""


class Trial(NamedTuple):
    """A finished trial: its options, and the last evaluation, each metric a list over seeds, None without a value."""

    options: dict[str, Any]
    metrics: dict[str, list[float | None]]

    def mean(self, metric: str) -> float:
        """The mean over seeds, NaN where it has no value."""
        values = [value for value in self.metrics[metric] if value is not None]
        return float(np.mean(values)) if values else float("nan")


Propose = Callable[[list[Trial]], list[dict[str, Any]]]
"""``finished trials -> options of those to run next``; none ends the sweep."""


@dataclasses.dataclass(frozen=True)
class Choice:
    """What an option is varied over: some values, or a range."""

    option: str
    values: tuple[Any, ...] = ()
    low: Any = None
    high: Any = None
    log: bool = False

    @classmethod
    def parse(cls, text: str) -> Choice:
        """Reads ``learn.discount=0,0.5,0.9``, ``network.dim=16..64`` or ``learn.learning-rate=log:1e-4..1e-2``.

        Raises:
          ValueError: the text is none of these.
        """
        name, equals, given = text.partition("=")
        log, span = given.startswith("log:"), given.removeprefix("log:").split("..")
        option = name.strip().replace("-", "_")
        if not equals or not option or not given or len(span) > 2 or (log and len(span) == 1):
            raise ValueError(
                f"--vary {text!r} is no option with values; write name=value,value or name=low..high or"
                " name=log:low..high, such as learn.discount=0,0.5,0.9."
            )
        if len(span) == 1:
            return cls(option, tuple(_value(value) for value in given.split(",")))
        low, high = (_value(bound) for bound in span)
        numbers = all(isinstance(bound, int | float) and not isinstance(bound, bool) for bound in (low, high))
        if not numbers or not low < high or (log and low <= 0):
            raise ValueError(f"--vary {text!r} is no range: low must be less than high, and above 0 after log:.")
        return cls(option, low=low, high=high, log=log)

    def draw(self, rng: np.random.Generator) -> Any:
        """A value at random; whole numbers between whole bounds, both included."""
        if self.values:
            return self.values[rng.integers(len(self.values))]
        whole = isinstance(self.low, int) and isinstance(self.high, int)
        if whole and not self.log:
            return int(rng.integers(self.low, self.high + 1))
        low, high = (np.log([self.low, self.high])) if self.log else (self.low, self.high)
        drawn = rng.uniform(low, high)
        value = float(np.exp(drawn)) if self.log else float(drawn)
        return round(value) if whole else value


def grid(choices: Sequence[Choice]) -> Propose:
    """Every combination of values.

    Raises:
      ValueError: an option is varied over a range.
    """
    for choice in choices:
        if not choice.values:
            raise ValueError(f"A grid needs values of {choice.option}, not a range; list them, or search at random.")
    every = [
        dict(zip((choice.option for choice in choices), values, strict=True))
        for values in itertools.product(*(choice.values for choice in choices))
    ]
    return _remaining(every)


def random_search(choices: Sequence[Choice], trials: int, seed: int) -> Propose:
    """So many combinations at random; the same ones for the same seed."""
    rng = np.random.default_rng(seed)
    return _remaining([{choice.option: choice.draw(rng) for choice in choices} for _ in range(trials)])


def optuna_search(choices: Sequence[Choice], trials: int, seed: int, batch: int, metric: str) -> Propose:
    """Optuna's tree-structured Parzen estimator, which learns from finished trials what to try next.

    Raises:
      ValueError: Optuna is not installed.
    """
    try:
        optuna = importlib.import_module("optuna")
    except ImportError:
        raise ValueError("Searching with Optuna needs an extra: pip install 'recjax[optuna]'.") from None
    distributions = {choice.option: _distribution(optuna, choice) for choice in choices}

    def propose(done: list[Trial]) -> list[dict[str, Any]]:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = optuna.samplers.TPESampler(seed=seed + len(done))
        study = optuna.create_study(sampler=sampler, direction="minimize" if _is_lower_better(metric) else "maximize")
        for trial in done:
            known = {"params": trial.options, "distributions": distributions, "value": trial.mean(metric)}
            study.add_trial(optuna.trial.create_trial(**known))
        return [dict(study.ask(distributions).params) for _ in range(min(batch, trials - len(done)))]

    return propose


def ranked(trials: Sequence[Trial], metric: str) -> list[Trial]:
    """The trials, best first by the mean of a metric; those without a value last."""
    sign = 1 if _is_lower_better(metric) else -1
    return sorted(trials, key=lambda trial: (np.isnan(trial.mean(metric)), sign * trial.mean(metric)))


def run_sweep(
    config: StudyConfig,
    propose: Propose,
    *,
    directory: str | Path,
    parallel: int = 4,
    resume: bool = True,
    on_checked: Callable[[], None] | None = None,
    progress: Progress | None = None,
) -> list[Trial]:
    """Runs the trials that are proposed; finished ones are kept in ``directory`` and never run again.

    Trials that differ in hyper-parameters of the agent alone (:data:`HYPER_PARAMETERS`) run side by side in one
    program, with ``jax.vmap`` over trials and seeds; others one after the other. All have the keys that
    :func:`run_study` would give them alone, so differences are paired by seed.

    Args:
      config: the study that trials change; of one policy.
      propose: :func:`grid`, :func:`random_search`, :func:`optuna_search`, or a function of your own.
      directory: where finished trials are.
      parallel: how many trials run side by side, at most.
      resume: whether finished trials that are there already count; without it, they are removed.
      on_checked: called once it is known that the first trials can run, before anything is written.
      progress: where to show progress.

    Returns:
      All finished trials, in the order in which they finished.

    Raises:
      ValueError: there is more than one policy, or a trial cannot run; then none of those proposed with it has.
      Interrupted: on Ctrl-C; trials that are not finished are lost.
    """
    if len(config.agent) != 1:
        raise ValueError(f"A sweep is of one policy; got {', '.join(config.agent) or 'none'}. Choose it with --agent.")
    import_plugins(config.plugins)
    folder, begun = Path(directory), False
    done = read_trials(folder) if resume else []
    while proposed := propose(done):
        configs = [config.with_options(options) for options in proposed]
        for one in configs:
            check_study(dataclasses.replace(one, seeds=one.seeds * min(parallel, len(configs))))
        if not begun:
            if not resume:
                shutil.rmtree(folder, ignore_errors=True)
            if on_checked:
                on_checked()
            begun = True
        for i, metrics in _run(configs, parallel, progress):
            done.append(Trial(proposed[i], metrics))
            _write(folder / f"{len(done):04d}.json", done[-1])
    return done


def read_trials(directory: str | Path) -> list[Trial]:
    """The finished trials of a sweep, in the order in which they finished."""
    files = sorted(Path(directory).glob("[0-9]*.json"))
    return [Trial(**json.loads(file.read_text(encoding="utf-8"))) for file in files]


def _run(
    configs: list[StudyConfig], parallel: int, progress: Progress | None
) -> Iterator[tuple[int, dict[str, list[float | None]]]]:
    """Runs trials in groups that share a program; gives the number of each and its last evaluation."""
    order = sorted(range(len(configs)), key=lambda i: (_start_of(configs[i]), _program_of(configs[i])))
    start, prepared = None, None
    for _, group in itertools.groupby(order, key=lambda i: _program_of(configs[i])):
        members = list(group)
        if prepared is None or _start_of(configs[members[0]]) != start:
            start, prepared = _start_of(configs[members[0]]), prepare(configs[members[0]], progress=progress)
        for first in range(0, len(members), parallel):
            some = members[first : first + parallel]
            name = f"trial{'s' if len(some) > 1 else ''} {', '.join(str(1 + i) for i in some)} of {len(configs)}"
            yield from zip(some, _side_by_side([configs[i] for i in some], prepared, progress, name), strict=True)


def _side_by_side(
    configs: list[StudyConfig], prepared: Prepared, progress: Progress | None, name: str
) -> list[dict[str, list[float | None]]]:
    """The last evaluation of each of some trials of one program."""
    (policy_name,), count, seeds = configs[0].agent, len(configs), configs[0].seeds
    contexts = [dataclasses.replace(prepared.policies, config=config) for config in configs]
    policies: list[Policy] = [make_policy(policy_name, context) for context in contexts]
    hparams = [policy.agent.hparams if policy.hparams is None else policy.hparams for policy in policies]
    wide = dataclasses.replace(configs[0], seeds=count * seeds)
    program = Program(prepared.env, policies[0].agent, wide, parse_reward(configs[0].reward), groups=count)
    result = run_program(
        program,
        jax.random.fold_in(jax.random.key(configs[0].seed), 1),
        hparams=jax.tree.map(lambda *values: jnp.repeat(jnp.stack(values), seeds, axis=0), *hparams),
        params=policies[0].params,
        per_seed_hparams=hparams[0] is not None,
        devices=configs[0].devices,
        progress=progress,
        name=name,
    )
    finite = {
        metric: np.where(np.isfinite(values), values, None).reshape(count, seeds)  # type: ignore[call-overload]
        for metric, values in result.final().items()
    }
    return [{metric: values[i].tolist() for metric, values in finite.items()} for i in range(count)]


def _remaining(every: list[dict[str, Any]]) -> Propose:
    def propose(done: list[Trial]) -> list[dict[str, Any]]:
        finished = [trial.options for trial in done]
        return [options for options in every if options not in finished]

    return propose


def _program_of(config: StudyConfig) -> str:
    """Equal for trials that one program can run: all options but the hyper-parameters of agents that have them."""
    values = json.loads(config.to_json())
    if config.agent[0] in TUNABLE:
        for name in HYPER_PARAMETERS:
            values["learn"].pop(name.removeprefix("learn."))
    return json.dumps(values, sort_keys=True)


def _start_of(config: StudyConfig) -> str:
    """Equal for trials that start from the same fitted simulator and the same supervised model."""
    values = json.loads(config.to_json())
    return json.dumps({name: value for name, value in values.items() if name not in NOT_PREPARED}, sort_keys=True)


def _write(path: Path, trial: Trial) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(trial._asdict(), indent=1, allow_nan=False) + "\n")


def _value(text: str) -> Any:
    """A number, a truth value or null, as JSON has them, else the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text.strip()


def _distribution(optuna: Any, choice: Choice) -> Any:
    if choice.values:
        return optuna.distributions.CategoricalDistribution(choice.values)
    whole = isinstance(choice.low, int) and isinstance(choice.high, int)
    kind = optuna.distributions.IntDistribution if whole else optuna.distributions.FloatDistribution
    return kind(choice.low, choice.high, log=choice.log)


def _is_lower_better(metric: str) -> bool:
    return describe(metric).better == "lower"
