"""A study: from a configuration to policies that are compared in a closed loop, and their results.

>>> from recjax import study
>>> config = study.StudyConfig(env="synthetic", items=100, seeds=2)
>>> config.agent[:2]
('random', 'popularity')
"""

from typing import TYPE_CHECKING

from recjax._lazy import lazy

if TYPE_CHECKING:
    from recjax.study.check import check_study, import_plugins
    from recjax.study.collect import collect_log
    from recjax.study.config import POLICIES, LearnConfig, NetworkConfig, StudyConfig
    from recjax.study.examples import first_seed
    from recjax.study.policies import Policy, PolicyContext, policies
    from recjax.study.prepare import Prepared, prepare
    from recjax.study.presets import PRESETS, preset
    from recjax.study.source import LEAST_EVENTS, Source, open_source
    from recjax.study.study import Study, run_study
    from recjax.study.sweep import Choice, Trial, grid, optuna_search, random_search, ranked, read_trials, run_sweep
    from recjax.study.yardsticks import Yardstick, yardsticks

__all__ = [
    "LEAST_EVENTS",
    "POLICIES",
    "PRESETS",
    "Choice",
    "LearnConfig",
    "NetworkConfig",
    "Policy",
    "PolicyContext",
    "Prepared",
    "Source",
    "Study",
    "StudyConfig",
    "Trial",
    "Yardstick",
    "check_study",
    "collect_log",
    "first_seed",
    "grid",
    "import_plugins",
    "open_source",
    "optuna_search",
    "policies",
    "prepare",
    "preset",
    "random_search",
    "ranked",
    "read_trials",
    "run_study",
    "run_sweep",
    "yardsticks",
]

lazy(__name__)
