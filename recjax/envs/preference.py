"""What users like, fitted to a log by variational Bayesian logistic matrix factorisation.

Whether user ``u`` likes item ``i`` (see :mod:`recjax.envs.evidence`) is Bernoulli with logit
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

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from recjax.data import Dataset, draw_users
from recjax.envs.evidence import Events, Evidence, PreferenceConfig, read_evidence
from recjax.envs.preference_report import Measured, PreferenceReport, measure
from recjax.types import Array

CHUNK = 1024
"""Interactions whose moments are gathered at once: few enough to stay in a core's cache, which is ten times faster."""

MAX_EVENTS = 2_000_000
"""Events, with those that are drawn as passed over, to which items are fitted: some minutes of work. Of bigger logs
some users are drawn, who tell as much of the items."""

FOLD_IN_ROUNDS = 4
"""Rounds in which users are fitted to items that stay as they are; only the bound on the logistic function moves."""

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


def fit_preference(
    dataset: Dataset,
    config: PreferenceConfig = PreferenceConfig(),  # noqa: B008 (frozen)
    *,
    factors: int = 8,
    iterations: int = 30,
    held_out: float = 0.1,
    key: Array | None = None,
) -> tuple[Preference, PreferenceReport]:
    """Fits who likes what to all interactions of a log, and says how well that predicts.

    The model is fitted twice: without a random ``held_out`` share, for the report, and then to
    everything. Of logs with more than :data:`MAX_EVENTS` events, the items are fitted to the events of users drawn
    at random, and then the users, all of them, to those items.

    Args:
      dataset: a :class:`recjax.data.Dataset`. Interactions of users or items that the data set does not know (ids
        outside ``0 .. num_users - 1`` and ``0 .. num_items - 1``) are left out, and the report counts them.
      config: how the log tells what is liked: by ratings, by what was taken, or by what was shown and taken. See
        :func:`recjax.envs.read_evidence`.
      factors: most factors that the log may support; needless ones switch off.
      iterations: rounds of coordinate ascent.
      held_out: share of the interactions held out for the report, in (0, 1).
      key: PRNG key of the held-out part, of the initial factors and of the items that are presumed to have been
        passed over; ``jax.random.key(0)`` by default.

    Returns:
      The preference, and the report on its fit to the rest of the log.

    Raises:
      ValueError: the log has nothing of the kind that ``config`` asks for, everything or nothing is liked, an
        argument is out of range, or nothing is left to fit when the share is held out.
    """
    if factors < 0 or iterations < 1 or not 0 < held_out < 1:
        raise ValueError(
            f"fit_preference got factors={factors}, iterations={iterations}, held_out={held_out};"
            " it needs factors >= 0, iterations >= 1 and 0 < held_out < 1."
        )
    evidence = read_evidence(dataset, config)
    split_key, fit_key = jax.random.split(jax.random.key(0) if key is None else key)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(split_key)))
    sample = _sample(evidence, rng)
    is_test = _held_out(split_key, len(sample.observed.users), held_out)
    size = _Size(sample.num_users, sample.num_items, factors, iterations)
    report = PreferenceReport(
        **_measured(sample, is_test, size, fit_key, rng)._asdict(),
        num_held_out=int(is_test.sum()),
        num_interactions=len(evidence.observed.users),
        like_rate=float(evidence.observed.liked.mean()),
        feedback=evidence.feedback,
        text=evidence.text,
        threshold=evidence.threshold,
        num_left_out=evidence.num_left_out,
        num_users_fitted=None if sample is evidence else sample.num_users,
    )
    events = sample.to_learn_from(rng)
    if sample is evidence:
        return _fit(fit_key, events, size), report
    fitted = _ascend(fit_key, events, size)
    return _fold_in(fitted, evidence.to_learn_from(rng), evidence.num_users), report


def _held_out(key: Array, rows: int, share: float) -> np.ndarray:
    """``bool[rows]``: a random share of the rows, one at least."""
    count = max(1, round(share * rows))
    if count == rows:
        raise ValueError(f"held_out={share:g} holds out all {rows} interactions; leave some to fit.")
    is_held_out = np.zeros(rows, bool)
    is_held_out[np.asarray(jax.random.permutation(key, rows))[:count]] = True
    return is_held_out


def _measured(sample: Evidence, is_test: np.ndarray, size: _Size, key: Array, rng: np.random.Generator) -> Measured:
    """What fits to the rest say of held-out rows, with factors and without."""
    train, test = sample.to_learn_from(rng, is_test), sample.to_test_on(rng, is_test)
    shown = test.users, test.items
    logits, baseline = (
        _fit(key, train, size._replace(factors=factors)).logits(*shown) for factors in (size.factors, 0)
    )
    return measure(logits, baseline, test.liked, test.weight)


def _sample(evidence: Evidence, rng: np.random.Generator) -> Evidence:
    """The evidence, or that of as many users, drawn at random, as have :data:`MAX_EVENTS` events together."""
    per_user = np.bincount(evidence.observed.users, minlength=evidence.num_users) * (1 + evidence.negatives)
    if per_user.sum() <= MAX_EVENTS:
        return evidence
    return evidence.of_users(draw_users(per_user, MAX_EVENTS, rng))


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


class _Fitted(NamedTuple):
    """Posteriors of both sides, and the prior variances ``f32[T + 1]`` of users."""

    user: _Side
    item: _Side
    user_width: Array

    def preference(self) -> Preference:
        """Its means, by name."""
        factors = self.user_width.shape[0] - 1
        return Preference(
            user_vectors=self.user.mean[:, :factors],
            user_bias=self.user.mean[:, factors],
            item_vectors=self.item.mean[:, :factors],
            item_bias=self.item.mean[:, -1],
        )


def _in_chunks(events: Events) -> tuple[Array, ...]:
    padding = -len(events.users) % CHUNK
    return tuple(jnp.pad(column, (0, padding)).reshape(-1, CHUNK) for column in events)


@partial(jax.jit, static_argnames="of")
def _fit(key: Array, events: Events, of: _Size) -> Preference:
    return _ascend(key, events, of).preference()


@partial(jax.jit, static_argnames="num_users")
def _fold_in(fitted: _Fitted, events: Events, num_users: int) -> Preference:
    """The preference of ``num_users`` users to whom ``events`` belong, given what was fitted of the items."""
    size = fitted.item.mean.shape[1]
    rows = jnp.zeros((num_users, size)).at[:, size - 1].set(1.0)
    user = _side(rows, jnp.diag(jnp.append(fitted.user_width, 0.0))[None])
    chunks = _in_chunks(events)

    def round_(user: _Side, _: None) -> tuple[_Side, None]:
        return _posterior(user, fitted.item, chunks, size - 1, fitted.user_width, jnp.zeros(size - 1)), None

    user, _ = jax.lax.scan(round_, user, None, length=FOLD_IN_ROUNDS)
    return fitted._replace(user=user).preference()


@partial(jax.jit, static_argnames="of")
def _ascend(key: Array, events: Events, of: _Size) -> _Fitted:
    size = of.factors + 2
    user_one, item_one = size - 1, size - 2
    user_id, item_id, liked, weight = _in_chunks(events)

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
    (user, item, user_width, *_), _ = jax.lax.scan(round_, carry, None, length=of.iterations)
    return _Fitted(user, item, user_width)
