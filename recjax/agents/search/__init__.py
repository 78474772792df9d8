"""Agents found by searching for parameters, with the rewards of whole episodes."""

from recjax.agents.search.evolution import Evolution, EvolutionState, evolution_strategy
from recjax.agents.search.vectors import VectorPolicyState, vector_policy

__all__ = ["Evolution", "EvolutionState", "VectorPolicyState", "evolution_strategy", "vector_policy"]
