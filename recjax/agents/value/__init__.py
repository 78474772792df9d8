"""Agents that learn the value of showing an item: deep and tabular Q-learning."""

from recjax.agents.value.dqn import DQNHyper, DQNState, dqn
from recjax.agents.value.tabular import TabularHyper, TabularState, expected_sarsa, last_item, q_learning, sarsa
from recjax.agents.value.target import TargetNetwork

__all__ = [
    "DQNHyper",
    "DQNState",
    "TabularHyper",
    "TabularState",
    "TargetNetwork",
    "dqn",
    "expected_sarsa",
    "last_item",
    "q_learning",
    "sarsa",
]
