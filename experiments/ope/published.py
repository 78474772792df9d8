"""Errors of estimators that the Open Bandit Pipeline publishes for its three examples, found again.

The problems are made anew, draw by draw as the examples of that package make them (Saito et al., "Open Bandit Dataset
and Pipeline", NeurIPS 2021; its README files have the numbers): digits as a bandit (a policy shows one of ten classes
and is rewarded if it is the right one), a synthetic bandit of 30 actions, and the sample of the Open Bandit Dataset,
where Thompson sampling is evaluated from what a uniform policy logged. Models are scikit-learn's, so the last digits
depend on its version. The error is ``|estimate / truth - 1|``, a mean over runs.

    python experiments/ope/published.py            # minutes
    python experiments/ope/published.py --smoke    # two runs of the first
"""

from __future__ import annotations

import dataclasses
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tyro
import yaml
from rich.console import Console
from rich.table import Table
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, train_test_split

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _results import Row, machine, write_rows

from recjax import data, ope

SEED = 12345
LOGISTIC = LogisticRegression(max_iter=10_000, C=100, random_state=SEED)
TREES: dict[str, Any] = {"n_estimators": 30, "max_depth": 5, "min_samples_leaf": 10, "random_state": SEED}
FOREST, BOOSTED = RandomForestClassifier(**TREES), GradientBoostingClassifier(learning_rate=0.01, **TREES)

ESTIMATORS = {"DM": ope.direct, "IPW": ope.ips, "SNIPW": ope.snips, "DR": ope.dr, "SNDR": ope.sndr}
PUBLISHED = {
    "digits": {"DM": 0.436541, "IPW": 0.030288, "SNIPW": 0.022764, "DR": 0.016156, "SNDR": 0.022082},
    "synthetic": {"DM": 0.074390, "IPW": 0.009481, "SNIPW": 0.006665, "DR": 0.006175, "SNDR": 0.006118},
    "open bandit": {"DM": 0.156876, "IPW": 0.311082, "SNIPW": 0.311795, "DR": 0.292464, "SNDR": 0.302407},
}


@dataclasses.dataclass(frozen=True)
class Config:
    only: str = ""
    """Examples whose names begin with this; all by default."""
    smoke: bool = False
    """Two runs of digits, to check that the script runs."""
    json: Path | None = None
    """File to which rows of name, value, unit and hardware are written."""


class Problem(NamedTuple):
    """A log, a policy and the truth of one run; ``[n, A]`` where not said otherwise.

    Attributes:
      action: ``i64[n]``.
      reward: ``f64[n]``.
      propensity: ``f64[n]``.
      policy: probabilities.
      predicted: rewards.
      truth: what the policy earns.
    """

    action: np.ndarray
    reward: np.ndarray
    propensity: np.ndarray
    policy: np.ndarray
    predicted: np.ndarray
    truth: float


def drawn(probabilities: np.ndarray, seed: int) -> np.ndarray:
    """An action of each row."""
    uniform = np.random.RandomState(seed).uniform(size=len(probabilities))
    return (probabilities.cumsum(1) > uniform[:, None]).argmax(1)


def softmax(logits: np.ndarray) -> np.ndarray:
    exponential = np.exp(logits - logits.max(1, keepdims=True))
    return exponential / exponential.sum(1, keepdims=True)


def cross_fitted(
    model: Any, context: np.ndarray, of_actions: np.ndarray, action: np.ndarray, reward: np.ndarray, slot: np.ndarray
) -> np.ndarray:
    """``f64[n, A]``: predicted rewards of each row in its own slot, by a model of each slot and fold of three."""
    found = np.zeros((len(action), len(of_actions)))
    for train, test in KFold(3, shuffle=True, random_state=SEED).split(context):
        for k in np.unique(slot):
            seen, asked = train[slot[train] == k], test[slot[test] == k]
            fitted = clone(model).fit(np.c_[context[seen], of_actions[action[seen]]], reward[seen])
            for a, features in enumerate(of_actions):
                rows = np.c_[context[asked], np.tile(features, (len(asked), 1))]
                found[asked, a] = fitted.predict_proba(rows)[:, 1]
    return found


def digits(runs: int = 30) -> Iterator[Problem]:
    """Classes as actions; both policies are classifiers that are sometimes uniform."""
    images, classes = load_digits(return_X_y=True)
    for run in range(runs):
        seen, images_, known, right = train_test_split(images, classes, test_size=0.7, random_state=run)

        def follows(classifier: Any, share: float, seen=seen, known=known, images_=images_) -> np.ndarray:
            chosen = clone(classifier).fit(seen, known).predict(images_)
            return (1 - share) / 10 + share * np.eye(10)[chosen]

        logging, policy = follows(LOGISTIC, 0.4), follows(FOREST, 0.9)
        rows, action = np.arange(len(right)), drawn(logging, run)
        reward = (action == right).astype(float)
        model = cross_fitted(BOOSTED, images_, np.eye(10), action, reward, np.zeros(len(right)))
        yield Problem(action, reward, logging[rows, action], policy, model, policy[rows, right].mean())


def synthetic(runs: int = 20, count: int = 10_000, actions: int = 30, width: int = 5) -> Iterator[Problem]:
    """Clicks are logistic in context and action; the logging policy prefers what is clicked least."""
    for run in range(runs):
        stream = np.random.RandomState(run)

        def sample(stream=stream, run=run) -> tuple[np.ndarray, ...]:
            context = stream.normal(size=(count, width))
            of_world = np.random.RandomState(run)
            sizes: list[Any] = [width + 1, actions + 1, (width + 1, actions + 1)]
            of_context, of_action, of_both = (of_world.uniform(-1, 1, size=size) for size in sizes)
            x, a = np.c_[np.ones(count), context], np.c_[np.ones(actions), np.eye(actions)]
            logit = (x @ of_context)[:, None] + a @ of_action + x @ of_both @ a.T
            # As it was when the numbers were published; later versions take the mean over the deviation away instead.
            click = 1 / (1 + np.exp(-(logit - logit.mean()) / logit.std()))
            logging = softmax(-3 * click)
            action, rows = drawn(logging, run), np.arange(count)
            return context, action, stream.binomial(1, click[rows, action]), logging[rows, action], click

        context, action, reward, propensity, _ = sample()
        learned = clone(LOGISTIC).fit(context, action, sample_weight=reward / propensity)
        context, action, reward, propensity, click = sample()
        policy = softmax(learned.predict_proba(context))
        model = cross_fitted(LOGISTIC, context, np.eye(actions), action, reward, np.zeros(count))
        yield Problem(action, reward, propensity, policy, model, (policy * click).sum(1).mean())


def open_bandit(runs: int = 30, simulations: int = 1_000_000) -> Iterator[Problem]:
    """Bernoulli Thompson sampling with the platform's own priors, from impressions of uniform slates."""
    logged = data.load("open-bandit", policy="random")
    truth = float(data.load("open-bandit", policy="bts").extras["click"].mean())
    order = np.argsort(logged.interactions.time, kind="stable")
    user, action = logged.interactions.user[order], logged.interactions.item[order]
    click, propensity = logged.extras["click"][order], logged.extras["propensity"][order]
    slot = logged.extras["position"][order] - 1
    kinds = np.array([name.partition("=")[0] for name in logged.genres])
    # Categories as the numbers of their sorted names.
    categories = [logged.multi_hot[:, kinds == kind].argmax(1) for kind in dict.fromkeys(kinds)]
    of_actions = np.c_[(*categories, logged.numeric)]
    policy = thompson_sampling(simulations)
    for run in range(runs):
        rows = np.random.RandomState(run).choice(np.arange(len(action)), size=len(action))
        parts = logged.context[user[rows]], of_actions, action[rows], click[rows], slot[rows]
        yield Problem(
            action[rows], click[rows], propensity[rows], policy[slot[rows]], cross_fitted(LOGISTIC, *parts), truth
        )


def thompson_sampling(simulations: int, slots: int = 3, at_once: int = 10_000) -> np.ndarray:
    """``f64[slots, A]``: how often each item is in each slot."""
    with zipfile.ZipFile(data.fetch("open-bandit")[0]) as wheel:
        priors = yaml.safe_load(wheel.read("obp/policy/conf/prior_bts.yaml"))["all"]
    alpha, beta = np.array(priors["alpha"]), np.array(priors["beta"])
    stream, shown = np.random.RandomState(SEED), np.zeros((slots, len(alpha)))
    for _ in range(simulations // at_once):
        best = np.argsort(stream.beta(alpha, beta, size=(at_once, len(alpha))), axis=1)[:, ::-1][:, :slots]
        shown += [np.bincount(best[:, k], minlength=len(alpha)) for k in range(slots)]
    return shown / shown.sum(1, keepdims=True)


EXAMPLES: dict[str, Callable[..., Iterator[Problem]]] = {
    "digits": digits,
    "synthetic": synthetic,
    "open bandit": open_bandit,
}


def errors(problem: Problem) -> dict[str, float]:
    """The relative error of each estimator."""
    of = ope.feedback_of_actions(
        problem.action, problem.reward, problem.propensity, problem.policy, predicted=problem.predicted
    )
    return {
        name: abs(float(np.asarray(estimator(of), np.float64).mean()) / problem.truth - 1)
        for name, estimator in ESTIMATORS.items()
    }


def main(config: Config) -> None:
    """Makes, estimates and prints."""
    table = Table(title="Relative error: published, and found here ± its standard error", title_justify="left")
    for heading in ("example", "estimator", "published", "found"):
        table.add_column(heading, justify="right" if heading in ("published", "found") else "left")
    rows, hardware = [], machine()["hardware"]
    for example, make in EXAMPLES.items():
        if not example.startswith("digits" if config.smoke else config.only):
            continue
        found = [errors(problem) for problem in (make(runs=2) if config.smoke else make())]
        for name in ESTIMATORS:
            values = np.array([each[name] for each in found])
            error = values.std(ddof=1) / np.sqrt(len(values))
            table.add_row(example, name, f"{PUBLISHED[example][name]:.4f}", f"{values.mean():.4f} ± {error:.4f}")
            rows.append(Row(f"published/{example}/{name}", float(values.mean()), "", hardware))
    Console().print(table)
    write_rows(config.json, rows)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
