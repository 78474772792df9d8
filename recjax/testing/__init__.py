"""Conformance suites for agents, environments, memories, metrics and data sets of one's own.

Each ``check_…`` runs one part on the contract of its kind and raises an error that says what
is broken. ``recjax``'s own parts pass the same suites:

>>> import jax
>>> from recjax import agents, envs, replay, testing
>>> env = envs.synthetic(num_items=40, slate_size=3, history_length=4)
>>> testing.check_environment(env)
>>> testing.check_agent(agents.random(), env)
>>> testing.check_memory(replay.uniform(window=2))

Beside them: probe environments whose values are known (:data:`PROBES`, :func:`q_values`; :class:`Bait` of slates;
:func:`vector_targets`), bandits whose regret is exact (:func:`linear_bandit`, :func:`bernoulli_bandit`), a control
problem on which scores of other agents are known (:func:`cart_pole`), and logs made to order (:func:`walking_log`).
"""

from recjax.testing.agents import check_agent
from recjax.testing.bait import Bait
from recjax.testing.bandits import Problem, bernoulli_bandit, linear_bandit
from recjax.testing.cart_pole import cart_pole
from recjax.testing.datasets import check_dataset
from recjax.testing.environments import check_environment
from recjax.testing.logs import walking_log
from recjax.testing.memories import check_memory
from recjax.testing.metrics import check_metric
from recjax.testing.probes import PROBES, Process, q_values
from recjax.testing.vectors import vector_targets

__all__ = [
    "PROBES",
    "Bait",
    "Problem",
    "Process",
    "bernoulli_bandit",
    "cart_pole",
    "check_agent",
    "check_dataset",
    "check_environment",
    "check_memory",
    "check_metric",
    "linear_bandit",
    "q_values",
    "vector_targets",
    "walking_log",
]
