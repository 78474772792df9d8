"""Agents whose actions are vectors, shown as they are or as the items nearest to them: DDPG, TD3 and SAC."""

from recjax.agents.continuous.actor_critic import ActorCriticState
from recjax.agents.continuous.deterministic import DeterministicHyper, ddpg, td3
from recjax.agents.continuous.losses import squashed_log_prob, temperature_loss
from recjax.agents.continuous.nearest import NearestItems
from recjax.agents.continuous.networks import GaussianActor, VectorActor, VectorCritic
from recjax.agents.continuous.sac import SACHyper, sac

__all__ = [
    "ActorCriticState",
    "DeterministicHyper",
    "GaussianActor",
    "NearestItems",
    "SACHyper",
    "VectorActor",
    "VectorCritic",
    "ddpg",
    "sac",
    "squashed_log_prob",
    "td3",
    "temperature_loss",
]
