"""Losses under the field's names, as functions of arrays: sampled, temporal-difference, policy-gradient, contrastive.

They take scores, values and vectors, and know no network and no trainer. Losses of *every* item, which are
passes over the catalogue, are in :mod:`recjax.catalogue`.

>>> import jax.numpy as jnp
>>> losses["bpr"](jnp.array([2.0]), jnp.array([[0.0, 1.0]])).round(3).tolist()
[0.22...]
>>> TD_LOSSES["mse"](jnp.array([3.0])).tolist()
[4.5]
"""

from recjax.losses.action_values import (
    double_q_learning,
    expected_sarsa,
    munchausen_q_learning,
    persistent_q_learning,
    q_learning,
    sarsa,
)
from recjax.losses.contrastive import info_nce
from recjax.losses.distributional import categorical_projection, categorical_td, quantile_regression, quantile_td
from recjax.losses.masked import masked_mean
from recjax.losses.policy_gradient import (
    clipped_surrogate,
    generalized_advantages,
    importance_weight,
    leave_one_out,
    normalized,
    policy_gradient_loss,
    top_k_correction,
)
from recjax.losses.sampled import Loss, bce, bpr, gbce, losses, sampled_softmax
from recjax.losses.td import TD_LOSSES, NStep, lambda_returns, munchausen_reward, n_step_return, td_error

__all__ = [
    "TD_LOSSES",
    "Loss",
    "NStep",
    "bce",
    "bpr",
    "categorical_projection",
    "categorical_td",
    "clipped_surrogate",
    "double_q_learning",
    "expected_sarsa",
    "gbce",
    "generalized_advantages",
    "importance_weight",
    "info_nce",
    "lambda_returns",
    "leave_one_out",
    "losses",
    "masked_mean",
    "munchausen_q_learning",
    "munchausen_reward",
    "n_step_return",
    "normalized",
    "persistent_q_learning",
    "policy_gradient_loss",
    "q_learning",
    "quantile_regression",
    "quantile_td",
    "sampled_softmax",
    "sarsa",
    "td_error",
    "top_k_correction",
]
