"""From a log to everything a study's loop needs: represented items and users, and simulated ones."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from recjax import data, envs
from recjax.data import Dataset, Split
from recjax.envs import Environment, Preference, PreferenceReport
from recjax.fit import Checkpoints, Hooks, Progress
from recjax.models.collaborative import ItemKNN, item_knn
from recjax.models.sequence import fit_recommendation
from recjax.nn import Recommendation, scorer
from recjax.rewards import parse as parse_reward
from recjax.study.collect import collect_log
from recjax.study.config import StudyConfig
from recjax.study.policies import PolicyContext, build_recommendation
from recjax.study.quality import all_liked, liked_events, quality
from recjax.study.ranking import KnownUsers, known_users, rank
from recjax.study.source import open_source
from recjax.study.yardsticks import with_oracles
from recjax.types import Array, Items, PyTree, Spec

COLLECT_USERS, COLLECT_STEPS = 1000, 100
"""Size of the log that is collected from environments that come without one."""

FACTORS = 8
"""Width of the fitted preference."""

LOGS = {
    "ratings": "{} has ratings but neither slates nor impressions.",
    "implicit": "{} says what users took, but has neither slates nor impressions.",
    "impressions": "{} says what was shown and taken; at the default no_click_logit users take as much of it.",
}
"""What the report says of a log, by how it tells what is liked."""


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What the loop of a study starts from.

    Attributes:
      dataset: the log.
      env: the simulated users.
      policies: what policies are built from.
      ranking: ``protocol`` and ``models``, metrics of each on held-out next items.
      simulator: ``text``, ``fit`` and ``declared``, for the report.
    """

    dataset: Dataset
    env: Environment
    policies: PolicyContext
    ranking: dict[str, Any]
    simulator: dict[str, Any]


def prepare(
    config: StudyConfig,
    *,
    dataset: Dataset | None = None,
    directory: Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> Prepared:
    """Loads the log, fits the simulator and trains the supervised model.

    Args:
      config: the study.
      dataset: the log that :func:`recjax.study.open_source` has loaded already; loaded here if None.
      directory: where what was fitted is saved; None saves nothing.
      resume: takes what an earlier call has saved in ``directory`` instead of fitting anew.
      progress: where to show progress.
    """
    simulate_key, collect_key, train_key = jax.random.split(jax.random.key(config.seed), 3)
    stages = _Stages(directory, resume, config.recipe())
    if config.env == "logged":
        log = open_source(config).dataset if dataset is None else dataset
        assert log is not None
        # Users are represented by their histories alone, so that policies serve anyone who has one.
        log = dataclasses.replace(log, context_names=(), context=None)
        dataset = data.without_impressions(log)
        split = data.leave_one_out(dataset.interactions)
        evidence = envs.read_evidence(log, config.preference)
        env, simulator = _logged(config, log, split, simulate_key, stages, progress)
    else:
        env, simulator = _environment(config, simulate_key)
        dataset = collect_log(env, users=COLLECT_USERS, steps=COLLECT_STEPS, key=collect_key, name=config.env)
        split = data.leave_one_out(dataset.interactions)
        evidence = all_liked(dataset)
    env = with_oracles(env, parse_reward(config.reward))
    model = build_recommendation(config, env.spec.num_items)
    known = known_users(split.train, dataset.num_users, config.max_events, config.seed)
    neighbours = item_knn(known.log, env.spec.num_items)
    learner = _Learner(config, model, env.items, liked_events(known.log, evidence), progress)
    params, ranking = _represent(learner, known, split, neighbours, train_key, stages)
    held_out = data.concatenate(split.validation, split.test)
    context = PolicyContext(config, model, *params, neighbours, quality(evidence, held_out))
    return Prepared(dataset, env, context, ranking, simulator)


class _Stages:
    """What was fitted in an earlier attempt at the same study."""

    def __init__(self, directory: Path | None, resume: bool, recipe: dict[str, Any]) -> None:
        self._directory, self._resume, self._recipe = directory, resume, recipe

    def once(self, name: str, like: PyTree, compute: Any) -> tuple[PyTree, dict[str, Any]]:
        """``compute() -> (tree, metadata)``, or what it returned last time.

        Raises:
          ValueError: last time was with another configuration.
        """
        if self._directory is None:
            return compute()
        checkpoints = Checkpoints(self._directory / name)
        if self._resume and checkpoints.latest_step() is not None:
            tree, saved = checkpoints.restore(like)
            if saved["recipe"] != self._recipe:
                raise ValueError(
                    f"{checkpoints.directory} was fitted with another configuration; resume it with the one that the"
                    " study was begun with, or start anew."
                )
            return tree, saved["metadata"]
        tree, metadata = compute()
        checkpoints.clear()
        checkpoints.save(0, tree, {"metadata": metadata, "recipe": self._recipe})
        return tree, metadata


@contextlib.contextmanager
def _shown(progress: Progress | None, name: str, what: str) -> Iterator[None]:
    """Says what goes on while nothing is counted: on a big log it takes minutes."""
    task = (progress or Progress(enabled=False)).task(name, total=1)
    with task.stage(what):
        yield
    task.update(1)
    task.finish()


def _logged(
    config: StudyConfig, dataset: Dataset, split: Split, key: Array, stages: _Stages, progress: Progress | None
) -> tuple[Environment, dict[str, Any]]:
    def fit() -> tuple[Preference, dict[str, Any]]:
        with _shown(progress, "simulator", "fitting"):
            preference, report = envs.fit_preference(dataset, config.preference, factors=FACTORS, key=key)
        return envs.at_level(preference, report), _described(report)

    users, n = dataset.num_users, dataset.num_items
    shapes = {"user_vectors": (users, FACTORS), "user_bias": (users,), "item_vectors": (n, FACTORS), "item_bias": (n,)}
    like = jax.eval_shape(lambda: Preference(**{name: jnp.zeros(shape) for name, shape in shapes.items()}))
    preference, fitted = stages.once("simulate", like, fit)
    env = envs.environments.make(
        "logged",
        dataset,
        preference=preference,
        response_model=config.response_model,
        train=split.train,
        slate_size=config.slate_size,
        history_length=config.history_length,
    )
    text = (
        f"{LOGS[fitted['feedback']].format(dataset.name)} What users like is fitted to that by a model of user ids and"
        " item ids, another class than the policies, which see histories only. How users choose within a slate, buy,"
        " tire of repetition, recover and leave is declared. Policies see what a platform would log, never a user's"
        " state."
    )
    return env, {"text": text, "fit": fitted, "declared": _declared(config)}


def _described(report: PreferenceReport) -> dict[str, Any]:
    """A fit for ``metrics.json`` and the report."""
    everything = f"all {report.num_interactions:,}"
    if report.num_users_fitted is not None:
        everything = f"the items of {report.num_users_fitted:,} users drawn at random, and then to all users"
    mean, low, high = report.gain
    return {
        "feedback": report.feedback,
        "log_likelihood": {
            "item + user bias": report.baseline_log_likelihood,
            "fitted preference": report.log_likelihood,
        },
        "gain": {"mean": mean, "low": low, "high": high},
        "calibration_error": report.calibration_error,
        "caption": f"{report.text} Mean over {report.num_held_out:,} interactions held out at random; the simulator is"
        f" then fitted to {everything}. Beyond item + user bias: {mean:+.4f} (95 % interval {low:+.4f} to"
        f" {high:+.4f}). Calibration error {report.calibration_error:.3f}.",
        "warning": report.warning,
    }


def _environment(config: StudyConfig, key: Array) -> tuple[Environment, dict[str, Any]]:
    options: dict[str, Any] = {"slate_size": config.slate_size, "history_length": config.history_length}
    if config.env == "synthetic":
        options |= {"num_items": config.items, "response_model": config.response_model, "key": key}
        env = envs.environments.make("synthetic", **options)
        text = (
            f"{config.items:,} items and users without end, drawn at random; no data. The log that models are trained "
            f"on was collected by showing random slates to {COLLECT_USERS:,} users."
        )
        return env, {"text": text, "fit": None, "declared": _declared(config)}
    env = envs.environments.make(config.env)
    return env, {"text": f"The environment {config.env!r}, as it was registered.", "fit": None, "declared": []}


def _declared(config: StudyConfig) -> list[dict[str, Any]]:
    return [row._asdict() for row in envs.describe(config.response_model)]


class Represented(NamedTuple):
    """Parameters of the supervised model: trained on what is liked, and on whatever comes next."""

    liked: PyTree
    next_item: PyTree


@dataclasses.dataclass(frozen=True)
class _Learner:
    """What the supervised model is trained by."""

    config: StudyConfig
    model: Recommendation
    items: Items
    liked: np.ndarray | None
    progress: Progress | None

    def fit(self, known: KnownUsers, key: Array) -> Represented:
        """Both kinds of parameters, which are the same where every event is a sign of liking."""
        train = data.sequences(known.log, known.num_users)

        def fitted(targets: np.ndarray | None) -> PyTree:
            options: dict[str, Any] = {"key": key, "hooks": Hooks(progress=self.progress), "targets": targets}
            return fit_recommendation(self.model, train, self.items, self.config.training, **options).params

        next_item = fitted(None)
        return Represented(next_item if self.liked is None else fitted(self.liked[known.log.order()]), next_item)

    def shapes(self, key: Array) -> Represented:
        """The shapes of what :meth:`fit` returns."""
        blank = Spec(self.items.num_items, self.config.slate_size, self.config.history_length).empty_observation((1,))
        one = jax.eval_shape(lambda: self.model.init(key, blank, self.items))
        return Represented(one, one)


def _represent(
    learner: _Learner, known: KnownUsers, split: Split, neighbours: ItemKNN, key: Array, stages: _Stages
) -> tuple[Represented, dict[str, Any]]:
    """Trains the supervised model and ranks it beside collaborative filtering."""

    def fit() -> tuple[Represented, dict[str, Any]]:
        fitted = learner.fit(known, key)
        named = {"two towers": fitted.next_item}
        if learner.liked is not None:
            named |= {"two towers, of what is liked": fitted.liked}
        two_towers = {name: scorer(learner.model, params, learner.items) for name, params in named.items()}
        with _shown(learner.progress, "held-out items", "ranking"):
            return fitted, rank(learner.config, known, split, two_towers, neighbours)

    return stages.once("represent", learner.shapes(key), fit)
