"""Agents that learn from a log of another policy, without acting: imitation, and values kept near to what it shows."""

from recjax.agents.offline.learner import OfflineHyper, OfflineState
from recjax.agents.offline.policies import bc, crr, iql
from recjax.agents.offline.values import bcq, cql

__all__ = ["OfflineHyper", "OfflineState", "bc", "bcq", "cql", "crr", "iql"]
