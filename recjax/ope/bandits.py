"""Estimators of what a policy would earn in one round, from rounds that another policy served.

Each takes a :class:`Feedback` of ``n`` rounds and returns ``f32[n]`` **contributions**: numbers, one a round, whose
mean is the estimate. Those of a ratio of means are linear to first order, ``R + w (r - R) / mean(w)``, so that the
spread of contributions is that of the estimate. Intervals, differences of policies and the choice of an estimator are
functions of contributions alone.
"""

from __future__ import annotations

import jax.numpy as jnp

from recjax.ope.feedback import Feedback
from recjax.types import Array


def ips(feedback: Feedback) -> Array:
    """Inverse propensity scoring, ``w r``: without bias where the logging policy shows all that the policy shows.

    References:
      Strehl et al., "Learning from Logged Implicit Exploration Data", NeurIPS 2010.

    >>> ips(Feedback(jnp.array([1.0, 0.0]), jnp.array([0.5, 3.0]))).tolist()
    [0.5, 0.0]
    """
    return feedback.weight * feedback.reward


def snips(feedback: Feedback) -> Array:
    """Self-normalised IPS, ``sum(w r) / sum(w)``: never out of the range of rewards, and mostly of less variance.

    References:
      Swaminathan, Joachims, "The Self-Normalized Estimator for Counterfactual Learning", NeurIPS 2015.
    """
    return weighted_mean(feedback.weight, feedback.reward)


def direct(feedback: Feedback) -> Array:
    """The direct method: what a model of rewards expects of the policy. As biased as the model is."""
    return needed(feedback, "expected")


def dr(feedback: Feedback) -> Array:
    """Doubly robust, ``v + w (r - q)``: without bias if either the propensities or the model are right.

    References:
      Dudík, Langford, Li, "Doubly Robust Policy Evaluation and Learning", ICML 2011.
    """
    return _corrected(feedback, feedback.weight)


def sndr(feedback: Feedback) -> Array:
    """Self-normalised doubly robust, ``mean(v) + sum(w (r - q)) / sum(w)``.

    References:
      Thomas, Brunskill, "Data-Efficient Off-Policy Policy Evaluation for Reinforcement Learning", ICML 2016.
    """
    error = feedback.reward - needed(feedback, "predicted")
    return needed(feedback, "expected") + weighted_mean(feedback.weight, error)


def switch_dr(feedback: Feedback, threshold: Array | float) -> Array:
    """Doubly robust where the weight is at most ``threshold``, and the direct method elsewhere.

    References:
      Wang, Agarwal, Dudík, "Optimal and Adaptive Off-policy Evaluation in Contextual Bandits", ICML 2017.
    """
    return _corrected(feedback, jnp.where(feedback.weight <= threshold, feedback.weight, 0.0))


def dr_shrinkage(feedback: Feedback, shrinkage: Array | float) -> Array:
    """Doubly robust with the weights ``λ w / (w² + λ)``: DR for a large ``shrinkage`` λ, the direct method for 0.

    References:
      Su, Dimakopoulou, Krishnamurthy, Dudík, "Doubly Robust Off-Policy Evaluation with Shrinkage", ICML 2020.
    """
    # Written so that λ may be infinite.
    return _corrected(feedback, feedback.weight / (feedback.weight**2 / jnp.maximum(shrinkage, 1e-30) + 1.0))


def mips(feedback: Feedback) -> Array:
    """IPS with the weights of groups of actions (``marginal``), where rewards depend on the group alone.

    References:
      Saito, Joachims, "Off-Policy Evaluation for Large Action Spaces via Embeddings", ICML 2022.
    """
    return needed(feedback, "marginal") * feedback.reward


def delta(feedback: Feedback, other: Feedback) -> Array:
    """What the policy of ``feedback`` earns more than that of ``other``, from the same log: Δβ-IPS.

    The weights of two policies differ by ``d`` with mean 0, so ``d (r - β)`` estimates the difference for every ``β``.
    Its variance is smallest at ``β = E[d² r] / E[d²]``, and where the policies agree nothing is added.

    Any other estimator compares two policies too: subtract their contributions.

    References:
      Jeunen, Ustimenko, "Δ-OPE: Off-Policy Estimation with Pairs of Policies", RecSys 2024.
    """
    difference = feedback.weight - other.weight
    square = jnp.mean(difference**2)
    baseline = jnp.mean(difference**2 * feedback.reward) / jnp.where(square > 0, square, 1.0)
    return difference * (feedback.reward - baseline)


def weighted_mean(weight: Array, values: Array) -> Array:
    """Contributions ``f32[n]`` to ``sum(w x) / sum(w)`` over the first axis; NaN where all weights are 0."""
    total = jnp.mean(weight, axis=0, keepdims=True)
    ratio = jnp.mean(weight * values, axis=0, keepdims=True) / total
    return ratio + weight * (values - ratio) / total


def needed(feedback: Feedback, name: str) -> Array:
    """A part of feedback that an estimator cannot do without.

    Raises:
      ValueError: it is None.
    """
    part = getattr(feedback, name)
    if part is None:
        raise ValueError(
            f"This estimator reads Feedback.{name}, which is None; IPS and SNIPS need rewards and weights alone."
        )
    return part


def _corrected(feedback: Feedback, weight: Array) -> Array:
    return needed(feedback, "expected") + weight * (feedback.reward - needed(feedback, "predicted"))
