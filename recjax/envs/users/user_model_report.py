"""How well a model of users predicts what it was not fitted to, and whether its sessions look like those of the log."""

from __future__ import annotations

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logit

from recjax.envs.preference_report import ReliabilityBin
from recjax.envs.preference_report import measure as measure_one
from recjax.envs.users.exposures import Exposures, combination
from recjax.envs.users.joint import each
from recjax.envs.users.learning import Examples
from recjax.envs.users.realism import SessionComparison
from recjax.eval import Interval

TINY = 1e-7
"""No probability counts as closer than this to 0 or 1."""


@dataclasses.dataclass(frozen=True)
class BehaviourReport:
    """How well one behaviour is predicted.

    Attributes:
      name: of the behaviour.
      rate: share of held-out exposures that it followed.
      log_likelihood: mean held-out log-likelihood, in nats per exposure.
      gain: that, less the log-likelihood of item + user bias; the interval takes exposures of one user for dependent.
      calibration: reliability over ten equally wide bins of the prediction; empty bins are left out.
      disagreement: mean standard deviation over members of the probability of held-out exposures.
      disagreement_elsewhere: the same of users and items drawn uniformly: what policies may show and logs hold little
        of.
    """

    name: str
    rate: float
    log_likelihood: float
    gain: Interval
    calibration: tuple[ReliabilityBin, ...]
    disagreement: float
    disagreement_elsewhere: float

    @property
    def calibration_error(self) -> float:
        """Expected calibration error: mean gap between prediction and outcome, over exposures."""
        gaps = sum(abs(one.predicted - one.observed) * one.weight for one in self.calibration)
        return gaps / sum(one.weight for one in self.calibration)


@dataclasses.dataclass(frozen=True)
class UserModelReport:
    """How well a model of users predicts the newest exposures of every user, to which it was not fitted.

    Attributes:
      log_likelihood: mean held-out log-likelihood of all behaviours together, in nats per exposure.
      member_log_likelihood: the same of a single member, on average.
      gain: the first, less the log-likelihood of item + user bias, which is fitted and stopped alike.
      behaviours: the same of each behaviour by itself, the weakest first.
      sessions: simulated sessions beside those of the log.
      num_held_out: exposures held out.
      num_exposures: of the log.
      text: how the log was read, in one sentence or two.
    """

    log_likelihood: float
    member_log_likelihood: float
    gain: Interval
    behaviours: tuple[BehaviourReport, ...]
    sessions: SessionComparison
    num_held_out: int
    num_exposures: int
    text: str

    @property
    def warning(self) -> str | None:
        """What to know where no more was learned than item + user bias; None where more was."""
        if self.gain.low > 0:
            return None
        return (
            f"Held-out behaviour is predicted no better than by item + user bias ({self.gain:+.4f} nats per exposure)."
            " What policies gain here by serving each user differently says nothing of the users of this log."
        )

    def __str__(self) -> str:
        lines = [
            f"users from {self.num_exposures:,} exposures, {self.num_held_out:,} of them held out:"
            f" log-likelihood {self.log_likelihood:.4f} nats per exposure ({self.member_log_likelihood:.4f} of a single"
            f" member), {self.gain:+.4f} beyond item + user bias. {self.text}"
        ]
        lines += [
            f"{one.name}: rate {one.rate:.3f}, log-likelihood {one.log_likelihood:.4f}, {one.gain:+.4f} beyond biases,"
            f" calibration error {one.calibration_error:.3f}, members disagree by {one.disagreement:.3f} on held-out"
            f" exposures and by {one.disagreement_elsewhere:.3f} elsewhere"
            for one in self.behaviours
        ]
        return "\n".join([*lines, str(self.sessions), *filter(None, [self.warning])])


def measure(
    exposures: Exposures,
    test: Examples,
    members: np.ndarray,
    baseline: np.ndarray,
    elsewhere: np.ndarray,
    sessions: SessionComparison,
) -> UserModelReport:
    """The report.

    Args:
      exposures: the log.
      test: the held-out part of it.
      members: ``f32[members, M, 2^S]`` probabilities of combinations of behaviours.
      baseline: ``f32[M, 2^S]`` by item + user bias.
      elsewhere: ``f32[members, P, 2^S]`` of users and items drawn uniformly.
      sessions: simulated sessions beside those of the log.
    """
    rows, done = np.arange(len(test.user)), combination(test.answers > 0)
    weight = test.weight[:, 0].astype(np.float64)
    mean = members.mean(axis=0)
    together = np.log(np.clip(mean, TINY, 1.0))[rows, done]
    alone = np.log(np.clip(members, TINY, 1.0))[:, rows, done].mean(axis=0)
    of_biases = np.log(np.clip(baseline, TINY, 1.0))[rows, done]
    marginal, marginal_baseline, spread, spread_elsewhere = (
        np.asarray(x, np.float64)
        for x in (each(jnp.asarray(mean)), each(jnp.asarray(baseline)), _spread(members), _spread(elsewhere))
    )
    behaviours = []
    for column, behaviour in enumerate(exposures.behaviours):
        answers = test.answers[:, column]
        logits, biases = (
            logit(jnp.clip(jnp.asarray(p[:, column]), TINY, 1 - TINY)) for p in (marginal, marginal_baseline)
        )
        found = measure_one(logits, biases, answers, weight)
        difference = _log_likelihoods(marginal[:, column], answers) - _log_likelihoods(
            marginal_baseline[:, column], answers
        )
        behaviours.append(
            BehaviourReport(
                name=behaviour.name.lower(),
                rate=float(np.average(answers, weights=weight)),
                log_likelihood=found.log_likelihood,
                gain=gain_of(difference, weight, test.user),
                calibration=found.calibration,
                disagreement=float(np.average(spread[:, column], weights=weight)),
                disagreement_elsewhere=float(spread_elsewhere[:, column].mean()),
            )
        )
    return UserModelReport(
        log_likelihood=float(np.average(together, weights=weight)),
        member_log_likelihood=float(np.average(alone, weights=weight)),
        gain=gain_of(together - of_biases, weight, test.user),
        behaviours=tuple(behaviours),
        sessions=sessions,
        num_held_out=int(test.answers.shape[0] if exposures.has_impressions else test.answers.any(axis=1).sum()),
        num_exposures=len(exposures),
        text=exposures.text,
    )


def _log_likelihoods(chance: np.ndarray, answers: np.ndarray) -> np.ndarray:
    return np.log(np.where(answers > 0, chance, 1 - chance).clip(TINY))


def _spread(members: np.ndarray) -> np.ndarray:
    """``f32[M, S]``: standard deviation over members of the probability of each behaviour."""
    return np.asarray(each(jnp.asarray(members))).std(axis=0)


def gain_of(difference: np.ndarray, weight: np.ndarray, users: np.ndarray) -> Interval:
    """The weighted mean of ``f64[M]`` and its 95 % interval, where rows of one user depend on each other."""
    mean = float(np.average(difference, weights=weight))
    of_user = np.bincount(users, weights=weight * (difference - mean))
    count = len(np.unique(users))
    half = 1.96 * math.sqrt(np.square(of_user).sum() * count / max(count - 1, 1)) / weight.sum()
    return Interval(mean, mean - half, mean + half, 0.95, count)
