"""A study: from a configuration to policies that are compared in a closed loop, and their results.

>>> from recjax import study
>>> config = study.StudyConfig(env="synthetic", items=100, seeds=2)
>>> config.agent[:2]
('random', 'popularity')
"""

from recjax.study.collect import collect_log
from recjax.study.config import POLICIES, LearnConfig, NetworkConfig, StudyConfig
from recjax.study.policies import Policy, PolicyContext, policies
from recjax.study.prepare import Prepared, prepare
from recjax.study.source import LEAST_EVENTS, Source, open_source
from recjax.study.study import Study, run_study

__all__ = [
    "LEAST_EVENTS",
    "POLICIES",
    "LearnConfig",
    "NetworkConfig",
    "Policy",
    "PolicyContext",
    "Prepared",
    "Source",
    "Study",
    "StudyConfig",
    "collect_log",
    "open_source",
    "policies",
    "prepare",
    "run_study",
]
