"""Policies to compare with: fixed rankings, and recommenders trained by supervised learning."""

from recjax.agents.baselines.fixed import FixedState, fixed_policy, neighbours, popularity, random
from recjax.agents.baselines.oracle import oracle
from recjax.agents.baselines.supervised import SupervisedState, similarity_prior, supervised, supervised_greedy

__all__ = [
    "FixedState",
    "SupervisedState",
    "fixed_policy",
    "neighbours",
    "oracle",
    "popularity",
    "random",
    "similarity_prior",
    "supervised",
    "supervised_greedy",
]
