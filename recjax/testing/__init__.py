"""Conformance suites for agents, environments, memories, metrics and data sets of one's own.

Each ``check_…`` runs one part on the contract of its kind and raises an error that says what
is broken. ``recjax``'s own parts pass the same suites:

>>> import jax
>>> from recjax import agents, envs, replay, testing
>>> env = envs.synthetic(num_items=40, slate_size=3, history_length=4)
>>> testing.check_environment(env)
>>> testing.check_agent(agents.random(), env)
>>> testing.check_memory(replay.uniform(window=2))

Beside them: probe environments whose values are known (:data:`PROBES`, :func:`q_values`; :class:`Bait` of slates), a
control problem on which scores of other agents are known (:func:`cart_pole`), and logs made to order
(:func:`walking_log`).
"""

from recjax.testing.agents import check_agent
from recjax.testing.bait import Bait
from recjax.testing.cart_pole import cart_pole
from recjax.testing.datasets import check_dataset
from recjax.testing.environments import check_environment
from recjax.testing.logs import walking_log
from recjax.testing.memories import check_memory
from recjax.testing.metrics import check_metric
from recjax.testing.probes import PROBES, Process, q_values

__all__ = [
    "PROBES",
    "Bait",
    "Process",
    "cart_pole",
    "check_agent",
    "check_dataset",
    "check_environment",
    "check_memory",
    "check_metric",
    "q_values",
    "walking_log",
]
