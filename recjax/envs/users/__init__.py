"""Users fitted to a log: what they do with what they are shown, and when they leave.

A log becomes exposures (:func:`read_exposures`), to which networks of what users do are fitted
(:func:`fit_user_model`); the report says how well they predict what they were not fitted to, and whether their sessions
look like those of the log. :func:`recjax.envs.fitted` is the environment of such users.
"""

from recjax.envs.users.exposures import Exposures, read_exposures
from recjax.envs.users.networks import FactorNetwork, HistoryNetwork, UserNetwork
from recjax.envs.users.realism import SessionComparison, SessionStatistic
from recjax.envs.users.two_sample import TwoSamples, two_sample_test
from recjax.envs.users.user_model import UserModel, UserModelConfig, fit_user_model
from recjax.envs.users.user_model_report import BehaviourReport, UserModelReport

__all__ = [
    "BehaviourReport",
    "Exposures",
    "FactorNetwork",
    "HistoryNetwork",
    "SessionComparison",
    "SessionStatistic",
    "TwoSamples",
    "UserModel",
    "UserModelConfig",
    "UserModelReport",
    "UserNetwork",
    "fit_user_model",
    "read_exposures",
    "two_sample_test",
]
