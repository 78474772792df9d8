"""Estimators of what a policy would earn with a slate, from slates that another policy showed.

Each takes a :class:`Feedback` of ``[n, K]``, one column a slot from the top, and returns ``f32[n]`` contributions of
slates, whose mean is the estimated sum of rewards (see :mod:`recjax.ope.bandits`). They differ in what they take a
user's answer to a slot to depend on.
"""

from __future__ import annotations

from recjax.ope import sequences
from recjax.ope.bandits import needed
from recjax.ope.feedback import Feedback
from recjax.types import Array


def sips(feedback: Feedback) -> Array:
    """Standard IPS: an answer may depend on the whole slate, so its weight is that of the whole slate.

    References:
      Swaminathan et al., "Off-policy Evaluation for Slate Recommendation", NeurIPS 2017, as its baseline.
    """
    return sequences.tis(feedback)


def iips(feedback: Feedback) -> Array:
    """Independent IPS: an answer depends on its own slot alone, ``sum w_k r_k`` with the ``marginal`` weights of slots.

    References:
      Li et al., "Offline Evaluation of Ranking Policies with Click Models", KDD 2018.
    """
    return (needed(feedback, "marginal") * feedback.reward).sum(1)


def rips(feedback: Feedback) -> Array:
    """Reward-interaction IPS: users read from the top (a cascade), so a slot's weight is that of all down to it.

    References:
      McInerney et al., "Counterfactual Evaluation of Slate Recommendations with Sequential Reward Interactions", KDD
      2020.
    """
    return sequences.pdis(feedback)


def cascade_dr(feedback: Feedback) -> Array:
    """Doubly robust under a cascade; ``predicted`` and ``expected`` are of the sum of rewards from a slot on.

    References:
      Kiyohara et al., "Doubly Robust Off-Policy Evaluation for Ranking Policies under the Cascade Behavior Model",
      WSDM 2022.
    """
    return sequences.sequential_dr(feedback)
