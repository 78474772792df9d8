"""What users like, fitted to a log of ratings by variational Bayesian logistic matrix factorisation.

Whether user ``u`` likes item ``i`` (rates it at or above a threshold) is Bernoulli with logit
``<p_u, q_i> + b_u + c_i`` under Gaussian priors. The factors belong to user ids and item ids, so
this is another class of model than the policies, which see histories and no user ids: a policy
cannot win by being the simulator.

The posterior is a product of Gaussians, one per user and one per item, found by coordinate
ascent with the bound of Jaakkola and Jordan on the logistic function; every update is in closed form.
The widths of the priors are set by empirical Bayes, one width per factor, so factors that the
log does not support switch themselves off and there is no regularisation to tune. With
``factors=0`` the same code is the item + user bias baseline, regularised as carefully.

References:
  T. S. Jaakkola and M. I. Jordan, "Bayesian parameter estimation via variational methods",
  Statistics and Computing 10 (2000).
  Y. J. Lim and Y. W. Teh, "Variational Bayesian approach to movie rating prediction", KDD Cup
  and Workshop (2007).
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from recjax.data import Dataset
from recjax.types import Array

CHUNK = 1024
"""Interactions whose moments are gathered at once: few enough to stay in a core's cache, which is ten times faster."""

MIN_WIDTH = 1e-4
"""Smallest prior variance: a factor that narrow is off, and float32 still inverts its precision."""


@struct.dataclass
class Preference:
    """Logits with which users like items, as factors of ids.

    Attributes:
      user_vectors: ``f32[U, T]``.
      user_bias: ``f32[U]``.
      item_vectors: ``f32[N, T]``.
      item_bias: ``f32[N]``.
    """

    user_vectors: Array
    user_bias: Array
    item_vectors: Array
    item_bias: Array

    def logits(self, users: Array, items: Array) -> Array:
        """Logits of pairs: ``users`` and ``items`` are ids of one shape, which is the result's.

        NaN where either id is outside the data set that the preference was fitted to.
        """
        known = (users >= 0) & (users < len(self.user_bias)) & (items >= 0) & (items < len(self.item_bias))
        inner = jnp.sum(self.user_vectors[users] * self.item_vectors[items], axis=-1)
        return jnp.where(known, inner + self.user_bias[users] + self.item_bias[items], jnp.nan)


class ReliabilityBin(NamedTuple):
    """Held-out interactions with similar predictions: mean prediction, share liked, how many."""

    predicted: float
    observed: float
    interactions: int


@dataclasses.dataclass(frozen=True)
class PreferenceReport:
    """How well a preference predicts interactions that its fit did not see.

    Attributes:
      log_likelihood: mean held-out log-likelihood per interaction, in nats.
      baseline_log_likelihood: the same for item + user bias.
      calibration: reliability over ten equally wide bins of the prediction; empty bins are left out.
      num_held_out: interactions held out, uniformly at random.
      num_interactions: rated interactions of the log between users and items of the data set; the
        preference that is returned is fitted to all.
      like_rate: share of interactions at or above the threshold.
      threshold: rating from which an item counts as liked.
      num_left_out: rated interactions whose user or item the data set does not know.
    """

    log_likelihood: float
    baseline_log_likelihood: float
    calibration: tuple[ReliabilityBin, ...]
    num_held_out: int
    num_interactions: int
    like_rate: float
    threshold: float
    num_left_out: int = 0

    @property
    def calibration_error(self) -> float:
        """Expected calibration error: mean gap between prediction and outcome, over interactions."""
        gaps = sum(abs(b.predicted - b.observed) * b.interactions for b in self.calibration)
        return gaps / self.num_held_out

    def __str__(self) -> str:
        return (
            f"preference (rating >= {self.threshold:g}: {self.like_rate:.1%} of {self.num_interactions:,} ratings):"
            f" held-out log-likelihood {self.log_likelihood:.4f} nats per interaction,"
            f" item + user bias {self.baseline_log_likelihood:.4f}, calibration error {self.calibration_error:.3f}"
            f" ({self.num_held_out:,} interactions held out at random)"
            + (f"; {self.num_left_out:,} ratings of unknown users or items left out" if self.num_left_out else "")
        )


def fit_preference(
    dataset: Dataset,
    *,
    threshold: float = 4.0,
    factors: int = 8,
    iterations: int = 30,
    held_out: float = 0.1,
    key: Array | None = None,
) -> tuple[Preference, PreferenceReport]:
    """Fits who likes what to all interactions of a log, and says how well that predicts.

    The model is fitted twice: without a random ``held_out`` share, for the report, and then to
    everything.

    Args:
      dataset: a :class:`recjax.data.Dataset`. Interactions without a rating say nothing of liking
        and are left out; so are those of users or items that the data set does not know (ids
        outside ``0 .. num_users - 1`` and ``0 .. num_items - 1``), which the report counts.
      threshold: an item rated at or above it is liked.
      factors: most factors that the log may support; needless ones switch off.
      iterations: rounds of coordinate ascent.
      held_out: share of the interactions held out for the report, in (0, 1).
      key: PRNG key of the held-out part and of the initial factors; ``jax.random.key(0)`` by default.

    Returns:
      The preference, and the report on its fit to the rest of the log.

    Raises:
      ValueError: the log has no ratings or infinite ones, everything or nothing is liked, an
        argument is out of range, or nothing is left to fit when the share is held out.
    """
    if factors < 0 or iterations < 1 or not 0 < held_out < 1:
        raise ValueError(
            f"fit_preference got factors={factors}, iterations={iterations}, held_out={held_out};"
            " it needs factors >= 0, iterations >= 1 and 0 < held_out < 1."
        )
    log = dataset.interactions
    known = (log.user >= 0) & (log.user < dataset.num_users) & (log.item >= 0) & (log.item < dataset.num_items)
    rating = np.full(len(log), np.nan, np.float32) if log.rating is None else log.rating
    rated, liked = _liked(rating, threshold, known)
    split_key, fit_key = jax.random.split(jax.random.key(0) if key is None else key)
    num_held_out = max(1, round(held_out * len(liked)))
    if num_held_out == len(liked):
        raise ValueError(f"held_out={held_out:g} holds out all {len(liked)} ratings; leave some to fit.")
    test = np.asarray(jax.random.permutation(split_key, len(liked)))[:num_held_out]
    train = np.ones(len(liked), np.float32)
    train[test] = 0.0

    events = _Events(log.user[rated], log.item[rated], liked, train)
    size = _Size(dataset.num_users, dataset.num_items, factors, iterations)
    shown = events.users[test], events.items[test]
    logits = _fit(fit_key, events, size).logits(*shown)
    baseline = _fit(fit_key, events, size._replace(factors=0)).logits(*shown)
    report = PreferenceReport(
        log_likelihood=_log_likelihood(logits, liked[test]),
        baseline_log_likelihood=_log_likelihood(baseline, liked[test]),
        calibration=_reliability(logits, liked[test]),
        num_held_out=num_held_out,
        num_interactions=len(liked),
        like_rate=float(liked.mean()),
        threshold=float(threshold),
        num_left_out=int((~known & ~np.isnan(rating)).sum()),
    )
    return _fit(fit_key, events._replace(weight=np.ones_like(train)), size), report


def _liked(rating: np.ndarray, threshold: float, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of ``known`` users and items that have a rating, and ``f32`` whether each of them is liked."""
    infinite = np.flatnonzero(np.isinf(rating))
    if len(infinite):
        raise ValueError(
            f"The rating in row {infinite[0]} is {rating[infinite[0]]}; ratings must be finite, or NaN for none."
        )
    rated = np.flatnonzero(known & ~np.isnan(rating))
    if not len(rated):
        raise ValueError(
            "The log has no ratings, so there is nothing to fit a preference to; pass a Preference of your own."
        )
    liked = (rating[rated] >= threshold).astype(np.float32)
    if liked.all() or not liked.any():
        raise ValueError(
            f"threshold={threshold:g} leaves {'nothing disliked' if liked.all() else 'nothing liked'}: ratings lie in"
            f" [{rating[rated].min():g}, {rating[rated].max():g}]; choose a threshold inside."
        )
    return rated, liked


class _Events(NamedTuple):
    """Rated interactions: ids ``i32[E]``, ``f32[E]`` whether liked, ``f32[E]`` how much each counts."""

    users: np.ndarray
    items: np.ndarray
    liked: np.ndarray
    weight: np.ndarray


class _Size(NamedTuple):
    """What a fit is compiled for."""

    num_users: int
    num_items: int
    factors: int
    iterations: int


class _Side(NamedTuple):
    """Gaussian posteriors of one side: means ``f32[n, T + 2]``, second moments ``f32[n, (T + 2)²]``.

    Users are ``(p_u, b_u, 1)`` and items ``(q_i, 1, c_i)``, so a logit is one inner product and
    both sides share their updates; the coordinate that is always 1 has no variance.
    """

    mean: Array
    moment: Array


def _side(mean: Array, covariance: Array | float = 0.0) -> _Side:
    moment = mean[:, :, None] * mean[:, None, :] + covariance
    return _Side(mean, moment.reshape(len(mean), -1))


def _posterior(own: _Side, other: _Side, events: tuple[Array, ...], one: int, width: Array, centre: Array) -> _Side:
    """The Gaussians of ``own`` given those of ``other``.

    Args:
      own: side to update; its moments set the bound.
      other: the other side.
      events: own ids, other ids, liked, weight, each ``[chunks, CHUNK]``.
      one: coordinate of ``own`` that is always 1.
      width: ``f32[T + 1]`` prior variances of the free coordinates.
      centre: ``f32[T + 1]`` prior means of the free coordinates.
    """
    rows, size = own.mean.shape
    free = np.delete(np.arange(size), one)

    def add(sums: tuple[Array, Array], chunk: tuple[Array, ...]) -> tuple[tuple[Array, Array], None]:
        own_id, other_id, liked, weight = chunk
        moment = other.moment[other_id]
        xi = jnp.sqrt(jnp.maximum(jnp.sum(own.moment[own_id] * moment, axis=-1), 1e-6))
        curvature = weight * jnp.tanh(0.5 * xi) / (2.0 * xi)
        precision = sums[0].at[own_id].add(curvature[:, None] * moment)
        linear = sums[1].at[own_id].add((weight * (liked - 0.5))[:, None] * other.mean[other_id])
        return (precision, linear), None

    zeros = jnp.zeros_like(own.moment), jnp.zeros_like(own.mean)
    (precision, linear), _ = jax.lax.scan(add, zeros, events)
    precision = precision.reshape(rows, size, size)
    covariance = jnp.linalg.inv(precision[:, free[:, None], free] + jnp.diag(1.0 / width)[None])
    target = linear[:, free] - precision[:, free, one] + (centre / width)[None]
    mean = own.mean.at[:, free].set(jnp.einsum("nij,nj->ni", covariance, target))
    return _side(mean, jnp.zeros_like(precision).at[:, free[:, None], free].set(covariance))


@partial(jax.jit, static_argnames="of")
def _fit(key: Array, events: _Events, of: _Size) -> Preference:
    size = of.factors + 2
    user_one, item_one = size - 1, size - 2
    padding = -len(events.users) % CHUNK
    user_id, item_id, liked, weight = (jnp.pad(column, (0, padding)).reshape(-1, CHUNK) for column in events)

    def start(key: Array, rows: int, one: int) -> _Side:
        noise = 0.3 * jax.random.normal(key, (rows, of.factors))
        return _side(jnp.zeros((rows, size)).at[:, : of.factors].set(noise).at[:, one].set(1.0))

    def round_(carry: Any, _: None) -> tuple[Any, None]:
        user, item, user_width, item_width, item_mean = carry
        centre = jnp.zeros(size - 1)
        user = _posterior(user, item, (user_id, item_id, liked, weight), user_one, user_width, centre)
        centre = centre.at[-1].set(item_mean)
        item = _posterior(item, user, (item_id, user_id, liked, weight), item_one, item_width, centre)
        # Empirical Bayes. The scale of user factors stays 1, since only products are identified.
        item_mean = jnp.mean(item.mean[:, -1])
        second = jnp.mean(item.moment[:, :: size + 1], axis=0)
        item_width = jnp.append(second[: of.factors], second[-1] - item_mean**2)
        user_width = user_width.at[-1].set(jnp.mean(user.moment[:, item_one * (size + 1)]))
        return (user, item, *(jnp.maximum(width, MIN_WIDTH) for width in (user_width, item_width)), item_mean), None

    user_key, item_key = jax.random.split(key)
    user, item = start(user_key, of.num_users, user_one), start(item_key, of.num_items, item_one)
    width = jnp.ones(size - 1)
    carry: Any = user, item, width, width.at[: of.factors].set(0.25), jnp.zeros(())
    (user, item, *_), _ = jax.lax.scan(round_, carry, None, length=of.iterations)
    return Preference(
        user_vectors=user.mean[:, : of.factors],
        user_bias=user.mean[:, item_one],
        item_vectors=item.mean[:, : of.factors],
        item_bias=item.mean[:, -1],
    )


def _log_likelihood(logits: Array, liked: np.ndarray) -> float:
    return float(np.mean(jax.nn.log_sigmoid(jnp.where(liked > 0, logits, -logits))))


def _reliability(logits: Array, liked: np.ndarray, bins: int = 10) -> tuple[ReliabilityBin, ...]:
    predicted = np.asarray(jax.nn.sigmoid(logits), np.float64)
    index = np.minimum((predicted * bins).astype(int), bins - 1)
    rows = [index == bin_ for bin_ in range(bins)]
    return tuple(
        ReliabilityBin(float(predicted[row].mean()), float(liked[row].mean()), int(row.sum()))
        for row in rows
        if row.any()
    )
