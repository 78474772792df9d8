"""Bandits: agents that learn what items earn at once, and show what they are not sure of.

A bandit is a *regression*, what it learns of rewards, and a *rule*, how it explores:

>>> from recjax import agents
>>> ucb1 = agents.ucb(agents.Means())
>>> lin_ucb = agents.ucb(agents.Linear(), width=0.5)
>>> for_each_user = agents.user_models(lambda seen: seen.context.argmax(-1), count=100)
>>> thompson = agents.thompson(agents.Linear(agents.item_features, for_each_user), width=0.1)
>>> disjoint = agents.square_cb(agents.Linear(agents.context_features, agents.item_models()))
"""

from recjax.agents.bandits.bandit import BanditHyper, BanditState
from recjax.agents.bandits.designs import (
    ONE_MODEL,
    FeatureMap,
    Models,
    context_features,
    crossed_features,
    item_features,
    item_models,
    user_models,
)
from recjax.agents.bandits.neural_linear import MLPFeatures, NeuralLinear, NeuralModel
from recjax.agents.bandits.regressions import Estimate, Linear, Means, MeanTable, Regression, Seen
from recjax.agents.bandits.ridge import Ridge
from recjax.agents.bandits.rules import epsilon_greedy_bandit, square_cb, thompson, ucb

__all__ = [
    "ONE_MODEL",
    "BanditHyper",
    "BanditState",
    "Estimate",
    "FeatureMap",
    "Linear",
    "MLPFeatures",
    "MeanTable",
    "Means",
    "Models",
    "NeuralLinear",
    "NeuralModel",
    "Regression",
    "Ridge",
    "Seen",
    "context_features",
    "crossed_features",
    "epsilon_greedy_bandit",
    "item_features",
    "item_models",
    "square_cb",
    "thompson",
    "ucb",
    "user_models",
]
