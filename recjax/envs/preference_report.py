"""How well a fitted preference predicts what its fit did not see."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from recjax.types import Array

BINS = 10
"""Bins of the prediction in which reliability is told."""

ENOUGH = 20
"""Held-out interactions of the rarer outcome, liked or not, from which on a gain can be told from none."""


class ReliabilityBin(NamedTuple):
    """Held-out interactions with similar predictions: mean prediction, share liked, how many, and their weight."""

    predicted: float
    observed: float
    interactions: int
    weight: float


@dataclasses.dataclass(frozen=True)
class PreferenceReport:
    """How well a preference predicts interactions that its fit did not see.

    Attributes:
      log_likelihood: mean held-out log-likelihood per interaction, in nats; weighted where interactions are.
      baseline_log_likelihood: the same for item + user bias.
      gain_error: standard error of the difference of the two.
      rarer: held-out interactions of the rarer outcome, liked or not.
      calibration: reliability over ten equally wide bins of the prediction; empty bins are left out.
      num_held_out: interactions held out, uniformly at random.
      num_interactions: interactions of the log that tell of liking, between users and items of the data set; the
        preference that is returned is fitted to all.
      like_rate: share of them that are liked.
      feedback: how the log was read: ``ratings``, ``implicit`` or ``impressions``.
      text: the same in a sentence or two.
      threshold: rating from which an item counts as liked; None without ratings.
      num_left_out: such interactions whose user or item the data set does not know.
      num_users_fitted: users whose interactions the item factors are fitted to, None for all.
    """

    log_likelihood: float
    baseline_log_likelihood: float
    gain_error: float
    rarer: int
    calibration: tuple[ReliabilityBin, ...]
    num_held_out: int
    num_interactions: int
    like_rate: float
    feedback: str
    text: str
    threshold: float | None = None
    num_left_out: int = 0
    num_users_fitted: int | None = None

    @property
    def calibration_error(self) -> float:
        """Expected calibration error: mean gap between prediction and outcome, over interactions."""
        gaps = sum(abs(b.predicted - b.observed) * b.weight for b in self.calibration)
        return gaps / sum(b.weight for b in self.calibration)

    @property
    def gain(self) -> tuple[float, float, float]:
        """Log-likelihood beyond item + user bias, in nats per interaction, and its 95 % interval."""
        gain, half = self.log_likelihood - self.baseline_log_likelihood, 1.96 * self.gain_error
        return gain, gain - half, gain + half

    @property
    def warning(self) -> str | None:
        """What to know where the fit learned no more than item + user bias; None where it learned more."""
        gain, low, high = self.gain
        if self.rarer < ENOUGH:
            found = (
                f"Whether the fitted preference learned more than item + user bias cannot be told: of"
                f" {self.num_held_out:,} held-out interactions only {self.rarer} are of the rarer kind, liked or not"
            )
        elif low > 0:
            return None
        else:
            found = (
                f"The fitted preference predicts held-out interactions no better than item + user bias ({gain:+.4f}"
                f" nats per interaction, 95 % interval {low:+.4f} to {high:+.4f})"
            )
        return (
            f"{found}. The log does not tell users' tastes apart, so what policies gain here by serving each user"
            " differently says nothing of the users of this log."
        )

    def __str__(self) -> str:
        users = self.num_users_fitted
        return (
            f"preference from {self.num_interactions:,} interactions: held-out log-likelihood"
            f" {self.log_likelihood:.4f} nats per interaction, item + user bias {self.baseline_log_likelihood:.4f},"
            f" calibration error {self.calibration_error:.3f} ({self.num_held_out:,} interactions held out at random)"
            + (f"; {self.num_left_out:,} of unknown users or items left out" if self.num_left_out else "")
            + (f"; item factors fitted to {users:,} users" if users is not None else "")
            + f". {self.text}"
            + (f"\n{self.warning}" if self.warning else "")
        )


class Measured(NamedTuple):
    """The part of a report that is measured on held-out interactions; names are those of :class:`PreferenceReport`."""

    log_likelihood: float
    baseline_log_likelihood: float
    gain_error: float
    rarer: int
    calibration: tuple[ReliabilityBin, ...]


def measure(logits: Array, baseline: Array, liked: np.ndarray, weight: np.ndarray) -> Measured:
    """Compares predictions ``f32[E]`` with ``liked: f32[E]``, each counted ``weight: f32[E]`` times."""
    weight = weight.astype(np.float64)
    likelihood, of_baseline = _log_likelihoods(logits, liked), _log_likelihoods(baseline, liked)
    difference = likelihood - of_baseline
    mean = np.average(difference, weights=weight)
    error = np.sqrt(np.sum(np.square(weight * (difference - mean)))) / weight.sum()
    return Measured(
        float(np.average(likelihood, weights=weight)),
        float(np.average(of_baseline, weights=weight)),
        float(error),
        int(min((liked > 0).sum(), (liked <= 0).sum())),
        _reliability(logits, liked, weight),
    )


def _log_likelihoods(logits: Array, liked: np.ndarray) -> np.ndarray:
    return np.asarray(jax.nn.log_sigmoid(jnp.where(liked > 0, logits, -logits)), np.float64)


def _reliability(logits: Array, liked: np.ndarray, weight: np.ndarray) -> tuple[ReliabilityBin, ...]:
    predicted = np.asarray(jax.nn.sigmoid(logits), np.float64)
    index = np.minimum((predicted * BINS).astype(int), BINS - 1)
    rows = [(index == bin_) & (weight > 0) for bin_ in range(BINS)]
    return tuple(
        ReliabilityBin(
            float(np.average(predicted[row], weights=weight[row])),
            float(np.average(liked[row], weights=weight[row])),
            int(row.sum()),
            float(weight[row].sum()),
        )
        for row in rows
        if row.any()
    )
