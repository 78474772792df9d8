"""Agents that learn values: deep and tabular Q-learning of items, and Q-learning of slates."""

from recjax.agents.value.dqn import DQNHyper, DQNState, dqn
from recjax.agents.value.slate_q import SlateQState, slate_q
from recjax.agents.value.surrogate import Surrogates, SurrogateState
from recjax.agents.value.tabular import TabularHyper, TabularState, expected_sarsa, last_item, q_learning, sarsa
from recjax.agents.value.target import TargetNetwork
from recjax.agents.value.td_loss import Munchausen, Priorities, TDLoss

__all__ = [
    "DQNHyper",
    "DQNState",
    "Munchausen",
    "Priorities",
    "SlateQState",
    "SurrogateState",
    "Surrogates",
    "TDLoss",
    "TabularHyper",
    "TabularState",
    "TargetNetwork",
    "dqn",
    "expected_sarsa",
    "last_item",
    "q_learning",
    "sarsa",
    "slate_q",
]
