"""Agents that learn values: deep and tabular Q-learning of items, and Q-learning of slates."""

from recjax.agents.value.dqn import DQNHyper, DQNState, dqn
from recjax.agents.value.slate_q import SlateQState, slate_q
from recjax.agents.value.tabular import TabularHyper, TabularState, last_item, q_learning
from recjax.agents.value.target import TargetNetwork

__all__ = [
    "DQNHyper",
    "DQNState",
    "SlateQState",
    "TabularHyper",
    "TabularState",
    "TargetNetwork",
    "dqn",
    "last_item",
    "q_learning",
    "slate_q",
]
