"""The closed loop: act → respond → reward → store → learn, compiled.

>>> import jax
>>> from recjax import agents, envs, loop
>>> env = envs.environments.make("synthetic", num_items=50, slate_size=3)
>>> config = loop.LoopConfig(steps=4, chunk=2, eval_every=4, users=8, eval_users=8, eval_steps=2, seeds=2)
>>> result = loop.run(env, agents.agents.make("random"), config, key=jax.random.key(0))
>>> result.evaluations["ctr"].shape
(2, 2)
"""

from recjax.loop.collect import collect_log
from recjax.loop.config import LoopConfig
from recjax.loop.interrupt import Interrupted
from recjax.loop.policies import Policy, PolicyContext, policies
from recjax.loop.prepare import Prepared, prepare
from recjax.loop.program import LoopState, Program, Users
from recjax.loop.recommender import Recommended, Recommender
from recjax.loop.run import Result, run, run_program
from recjax.loop.study import Study, run_study
from recjax.loop.study_config import POLICIES, LearnConfig, NetworkConfig, StudyConfig

__all__ = [
    "POLICIES",
    "Interrupted",
    "LearnConfig",
    "LoopConfig",
    "LoopState",
    "NetworkConfig",
    "Policy",
    "PolicyContext",
    "Prepared",
    "Program",
    "Recommended",
    "Recommender",
    "Result",
    "Study",
    "StudyConfig",
    "Users",
    "collect_log",
    "policies",
    "prepare",
    "run",
    "run_program",
    "run_study",
]
