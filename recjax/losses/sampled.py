"""Losses of one positive item against sampled negatives, for catalogues too big to score all items.

All take scores, ``positive f32[B]`` and ``negatives f32[B, M]``, and return one loss an
example, ``f32[B]``. They compute in float32 (or wider, as the scores are) and have one call
form, :class:`Loss`, so that a trainer can choose by name from :data:`losses`:

>>> from recjax.catalogue import accidental_hits
>>> hits = accidental_hits(positives=jnp.array([1, 0]), negative_ids=jnp.array([1, 2, 3]))
>>> losses["sampled_softmax"](jnp.zeros(2), jnp.zeros((2, 3)), hits=hits).tolist()
[1.098..., 1.386...]

A removed negative may score anything, ``-inf`` and NaN included; the other negatives must be finite,
and so must the positive's score, also that of an example whose loss is masked afterwards.
"""

from __future__ import annotations

import math
from typing import Protocol

import jax
import jax.numpy as jnp
from jax import lax

from recjax.registry import Registry
from recjax.types import Array


class Loss(Protocol):
    """What every loss of :data:`losses` can be called with; one that has no use for an option ignores it."""

    def __call__(
        self,
        positive: Array,
        negatives: Array,
        *,
        logq: Array | None = None,
        hits: Array | None = None,
        num_items: int | None = None,
    ) -> Array:
        """Losses ``f32[B]``.

        Args:
          positive: ``f32[B]`` scores of the positives.
          negatives: ``f32[B, M]`` scores of the negatives.
          logq: ``f32[M]`` or ``f32[B, M]``, log-probability with which one draw gives each
            negative, as in :class:`recjax.catalogue.Negatives`.
          hits: ``bool[B, M]``, True where a negative is removed, see
            :func:`recjax.catalogue.accidental_hits`.
          num_items: size of the catalogue.
        """
        ...


losses: Registry = Registry("loss")
"""Functions of the form :class:`Loss`; options of one loss only, such as ``t`` of ``gbce``, are more keywords."""


@losses.register("sampled_softmax")
def sampled_softmax(
    positive: Array,
    negatives: Array,
    *,
    logq: Array | None = None,
    hits: Array | None = None,
    num_items: int | None = None,
    positive_logq: Array | None = None,
) -> Array:
    """Cross-entropy of the full softmax, its denominator estimated from draws.

    ``L = log Ẑ - s⁺`` with ``Ẑ = exp(s⁺) + Σⱼ exp(sⱼ) / (M qⱼ)`` over the negatives that
    are not removed. ``M`` counts removed draws too, as they were drawn. ``Ẑ`` is unbiased for ``Z`` if ``M`` draws
    are made with replacement from a ``q`` that is above 0 everywhere; ``log Ẑ`` is then too
    small on average, by the less the larger ``M``. The positive is in ``Z`` with certainty,
    so its score is not corrected. The gradient,

      ``∇L = -(1 - P̂) (∇s⁺ - Σⱼ wⱼ ∇sⱼ)`` with ``P̂ = exp(s⁺) / Ẑ``, ``wⱼ ∝ exp(sⱼ) / qⱼ``, ``Σⱼ wⱼ = 1``,

    is that of the loss of Khrylchenko et al., who hold the weight ``1 - P̂`` fixed in front of
    ``log Σⱼ exp(sⱼ) / qⱼ - s⁺``; for ``P̂`` they divide by the number of draws that remain and by
    ``q`` given that the positive is not drawn, which is the same in expectation.

    Without ``logq`` it is the softmax of the positive and the remaining negatives.

    Args:
      positive: see :class:`Loss`.
      negatives: see :class:`Loss`.
      logq: see :class:`Loss`.
      hits: see :class:`Loss`.
      num_items: not used.
      positive_logq: ``f32[B]`` log-probability with which one draw gives the positive, to
        correct its score as well: the batch softmax of Yi et al., with
        ``negatives.logq`` of :func:`recjax.catalogue.negatives.in_batch` for both. It is here
        for comparison: it weighs a positive by how rare it is, which ``Z`` does not.

    Returns:
      ``f32[B]``; 0 with a zero gradient where every negative is removed.

    Raises:
      ValueError: shapes or dtypes do not fit, or ``positive_logq`` comes without ``logq``.

    References:
      Bengio, Senécal, "Adaptive Importance Sampling to Accelerate Training of a Neural
      Probabilistic Language Model", IEEE Transactions on Neural Networks, 2008.

      Yi et al., "Sampling-Bias-Corrected Neural Modeling for Large Corpus Item
      Recommendations", RecSys 2019.

      Khrylchenko et al., "Correcting the LogQ Correction: Revisiting Sampled Softmax for
      Large-Scale Retrieval", RecSys 2025.
    """
    positive, negatives, is_negative = _prepare(positive, negatives, hits)
    margins = negatives - positive[:, None]
    if logq is not None:
        margins = margins - _of_negatives(logq, negatives)
    elif positive_logq is not None:
        raise ValueError("positive_logq is given without logq; give both, or neither for a plain softmax.")
    if positive_logq is not None:
        margins = margins + _of_positives(positive_logq, positive)[:, None]
    elif logq is not None:
        margins = margins - math.log(negatives.shape[1])
    return _log_one_plus_sum_exp(jnp.where(is_negative, margins, -jnp.inf))


@losses.register("bpr")
def bpr(
    positive: Array,
    negatives: Array,
    *,
    logq: Array | None = None,
    hits: Array | None = None,
    num_items: int | None = None,
) -> Array:
    """Bayesian personalised ranking: the mean of ``-log σ(s⁺ - sⱼ)`` over the remaining negatives.

    The source draws one negative a step; the mean keeps its scale whatever ``M``. How often
    a pair is compared is how often it is drawn: the sampler is part of the objective.

    Args:
      positive: see :class:`Loss`.
      negatives: see :class:`Loss`.
      logq: not used.
      hits: see :class:`Loss`.
      num_items: not used.

    Returns:
      ``f32[B]``; 0 with a zero gradient where every negative is removed.

    Raises:
      ValueError: shapes or dtypes do not fit.

    References:
      Rendle et al., "BPR: Bayesian Personalized Ranking from Implicit Feedback", UAI 2009.
    """
    positive, negatives, is_negative = _prepare(positive, negatives, hits)
    pairs = jnp.where(is_negative, jax.nn.softplus(negatives - positive[:, None]), 0.0)
    return pairs.sum(-1) / jnp.maximum(_count(is_negative, pairs), 1.0)


@losses.register("bce")
def bce(
    positive: Array,
    negatives: Array,
    *,
    logq: Array | None = None,
    hits: Array | None = None,
    num_items: int | None = None,
) -> Array:
    """Binary cross-entropy, the mean over the positive and the remaining negatives.

    ``L = -(log σ(s⁺) + Σⱼ log(1 - σ(sⱼ))) / (1 + n)`` with ``n`` negatives that remain, as
    in gSASRec. SASRec, which has one negative, adds the two terms: twice this.

    Args:
      positive: see :class:`Loss`.
      negatives: see :class:`Loss`.
      logq: not used.
      hits: see :class:`Loss`.
      num_items: not used.

    Returns:
      ``f32[B]``; ``-log σ(s⁺)`` where every negative is removed.

    Raises:
      ValueError: shapes or dtypes do not fit.

    References:
      Kang, McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018.
    """
    return _binary(positive, negatives, hits, beta=1.0)


@losses.register("gbce")
def gbce(
    positive: Array,
    negatives: Array,
    *,
    logq: Array | None = None,
    hits: Array | None = None,
    num_items: int | None = None,
    t: float = 0.75,
) -> Array:
    """Generalised binary cross-entropy, which takes back the overconfidence that sampling causes.

    :func:`bce` with ``β log σ(s⁺)`` for the positive, where ``β = α (t (1 - 1/α) + 1/α) =
    1 - t (1 - α)`` and ``α = M / (N - 1)`` is the share of negatives that are seen (at most 1).
    It is meant for uniform negatives.

    Args:
      positive: see :class:`Loss`.
      negatives: see :class:`Loss`.
      logq: not used.
      hits: see :class:`Loss`; ``α`` counts what was drawn, removed or not.
      num_items: ``N``; required.
      t: calibration in [0, 1]: 0 is :func:`bce`, 1 gives probabilities as if every negative
        had been seen. The source recommends 0.75.

    Returns:
      ``f32[B]``; ``-β log σ(s⁺)`` where every negative is removed.

    Raises:
      ValueError: ``num_items`` is missing or below 2, ``t`` is outside [0, 1], or shapes or
        dtypes do not fit.

    References:
      Petrov, Macdonald, "gSASRec: Reducing Overconfidence in Sequential Recommendation
      Trained with Negative Sampling", RecSys 2023.
    """
    if num_items is None or num_items < 2:
        raise ValueError(f"num_items is {num_items}; gbce needs the size of the catalogue, at least 2.")
    if not 0 <= t <= 1:
        raise ValueError(f"t is {t}; it must be in [0, 1], 0 for bce.")
    alpha = min(negatives.shape[-1] / (num_items - 1), 1.0)
    return _binary(positive, negatives, hits, beta=1 - t * (1 - alpha))


def _binary(positive: Array, negatives: Array, hits: Array | None, beta: float) -> Array:
    positive, negatives, is_negative = _prepare(positive, negatives, hits)
    against = jnp.where(is_negative, jax.nn.softplus(negatives), 0.0)
    return (beta * jax.nn.softplus(-positive) + against.sum(-1)) / (1.0 + _count(is_negative, against))


def _log_one_plus_sum_exp(x: Array) -> Array:
    """``log(1 + Σ exp(x))`` over the last axis: exact where it is tiny, 0 where all are ``-inf``."""
    top = lax.stop_gradient(x.max(-1, initial=0.0))
    return top + jnp.log1p(jnp.expm1(-top) + jnp.exp(x - top[:, None]).sum(-1))


def _prepare(positive: Array, negatives: Array, hits: Array | None) -> tuple[Array, Array, Array]:
    """Scores in float32 or wider, removed ones 0 so that no gradient meets their values, and what is a negative."""
    if negatives.ndim != 2 or not negatives.shape[1] or positive.shape != negatives.shape[:1]:
        raise ValueError(
            "Scores must have shapes [B] of positives and [B, M] of negatives, M >= 1;"
            f" got {positive.shape} and {negatives.shape}."
        )
    for name, scores in (("positive", positive), ("negatives", negatives)):
        if not jnp.issubdtype(scores.dtype, jnp.floating):
            raise ValueError(f"{name} must be floating scores; got {scores.dtype}.")
    if hits is not None and (hits.shape != negatives.shape or hits.dtype != jnp.bool_):
        raise ValueError(f"hits must be bool{negatives.shape}, one a negative; got {hits.dtype}{hits.shape}.")
    dtype = jnp.float64 if jnp.float64 in (positive.dtype, negatives.dtype) else jnp.float32
    is_negative = jnp.ones(negatives.shape, bool) if hits is None else ~hits
    return positive.astype(dtype), jnp.where(is_negative, negatives.astype(dtype), 0.0), is_negative


def _of_negatives(logq: Array, negatives: Array) -> Array:
    if logq.shape not in (negatives.shape, negatives.shape[1:]):
        raise ValueError(f"logq must have shape {negatives.shape[1:]} or {negatives.shape}; got {logq.shape}.")
    return jnp.broadcast_to(logq.astype(negatives.dtype), negatives.shape)


def _of_positives(logq: Array, positive: Array) -> Array:
    if logq.shape != positive.shape:
        raise ValueError(f"positive_logq must have shape {positive.shape}, one a positive; got {logq.shape}.")
    return logq.astype(positive.dtype)


def _count(is_negative: Array, like: Array) -> Array:
    return is_negative.sum(-1, dtype=like.dtype)
