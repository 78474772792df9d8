"""Agents that learn policies: policy gradients of slates and of vectors, with and without a critic."""

from recjax.agents.policy.actor_critic import Proximal, a2c, ppo
from recjax.agents.policy.gradient import PolicyHyper, PolicyRegularizer, PolicyState
from recjax.agents.policy.reinforce import TopKCorrection, reinforce, rloo
from recjax.agents.policy.sac import SACDiscreteHyper, SACDiscreteState, sac_discrete

__all__ = [
    "PolicyHyper",
    "PolicyRegularizer",
    "PolicyState",
    "Proximal",
    "SACDiscreteHyper",
    "SACDiscreteState",
    "TopKCorrection",
    "a2c",
    "ppo",
    "reinforce",
    "rloo",
    "sac_discrete",
]
