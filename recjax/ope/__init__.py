"""Off-policy evaluation: what a policy would earn, from a log of another one.

An estimator maps :class:`Feedback` to **contributions**, one number a row (round, slate or episode), whose mean is the
estimate. All that follows is a function of contributions: intervals, the difference of two policies, the choice of an
estimator. :func:`estimate` never comes without :class:`Support`, and refuses a log that cannot tell.

* Rounds: :func:`ips`, :func:`snips`, :func:`direct`, :func:`dr`, :func:`sndr`, :func:`switch_dr`,
  :func:`dr_shrinkage`, :func:`mips`, :func:`delta`.
* Slates: :func:`sips`, :func:`iips`, :func:`rips`, :func:`cascade_dr`.
* Episodes: :func:`tis`, :func:`pdis`, :func:`sn_pdis`, :func:`sequential_dr`, :func:`marginalised`, and
  :func:`fitted_q`.

>>> import jax, jax.numpy as jnp
>>> from recjax import ope
>>> shown, clicked = (jax.random.bernoulli(jax.random.key(i), 0.5, (500,)) for i in range(2))
>>> of = ope.feedback(clicked, propensity=jnp.full(500, 0.5), probability=jnp.where(shown, 0.7, 0.3))
>>> ope.estimate(ope.dr(of._replace(predicted=0 * of.reward, expected=0 * of.reward)), of.weight).support.count
500

Whole tables come from :func:`evaluate`, or from ``recjax evaluate``.
"""

from typing import TYPE_CHECKING

from recjax._lazy import lazy

if TYPE_CHECKING:
    from recjax.ope.bandits import delta, direct, dr, dr_shrinkage, ips, mips, sndr, snips, switch_dr, weighted_mean
    from recjax.ope.columns import LogColumns
    from recjax.ope.estimates import Estimate, IntervalKind, estimate
    from recjax.ope.evaluation import ESTIMATORS, evaluate
    from recjax.ope.feedback import Feedback, feedback, feedback_of_actions
    from recjax.ope.fitted_q import fitted_q
    from recjax.ope.intervals import bernstein_interval, biased_interval, bootstrap_intervals, by_unit
    from recjax.ope.logs import bandit_log
    from recjax.ope.policies import ByItem, Policy, Probabilities, Uniform
    from recjax.ope.reward_model import ItemRewards, fit_item_rewards
    from recjax.ope.selection import Estimator, slope, tuned
    from recjax.ope.sequences import cumulative_weight, marginalised, pdis, sequential_dr, sn_pdis, tis
    from recjax.ope.slates import cascade_dr, iips, rips, sips
    from recjax.ope.support import NoSupportError, Support, pareto_k, support

__all__ = [
    "ESTIMATORS",
    "ByItem",
    "Estimate",
    "Estimator",
    "Feedback",
    "IntervalKind",
    "ItemRewards",
    "LogColumns",
    "NoSupportError",
    "Policy",
    "Probabilities",
    "Support",
    "Uniform",
    "bandit_log",
    "bernstein_interval",
    "biased_interval",
    "bootstrap_intervals",
    "by_unit",
    "cascade_dr",
    "cumulative_weight",
    "delta",
    "direct",
    "dr",
    "dr_shrinkage",
    "estimate",
    "evaluate",
    "feedback",
    "feedback_of_actions",
    "fit_item_rewards",
    "fitted_q",
    "iips",
    "ips",
    "marginalised",
    "mips",
    "pareto_k",
    "pdis",
    "rips",
    "sequential_dr",
    "sips",
    "slope",
    "sn_pdis",
    "sndr",
    "snips",
    "support",
    "switch_dr",
    "tis",
    "tuned",
    "weighted_mean",
]

lazy(__name__)
