"""User simulators: who arrives, what they click, how they feel about it, when they leave.

An :class:`Environment` is a pair of pure functions of one user over a catalogue that all users
share; the loop maps them over users and seeds. What a user *likes* is fitted to a log
(:func:`fit_preference`) or drawn at random; how they *respond* to slates is declared
(:class:`ResponseModel`), because no log of ratings can tell it.

>>> import jax
>>> from recjax import envs
>>> env = envs.environments.make("synthetic", num_items=50, slate_size=3)
>>> reset = jax.jit(jax.vmap(env.reset, in_axes=(0, None, None)))
>>> observation, users = reset(jax.random.split(jax.random.key(0), 8), env.params, env.world(jax.random.key(1)))
>>> observation.history.shape
(8, 20)
"""

from typing import TYPE_CHECKING

from recjax._lazy import lazy

if TYPE_CHECKING:
    from recjax.envs.base import Environment, Oracle, Transition, environments, register
    from recjax.envs.choice.models import (
        ChoiceModel,
        exponential_cascade,
        multinomial_logit,
        multinomial_proportional,
        proportional_cascade,
    )
    from recjax.envs.choice.response_model import Description, ResponseModel, as_arrays, describe
    from recjax.envs.evidence import Evidence, read_evidence
    from recjax.envs.preference import Preference, fit_preference
    from recjax.envs.preference_config import PreferenceConfig
    from recjax.envs.preference_report import PreferenceReport, ReliabilityBin
    from recjax.envs.presets.conversational import Dialogue, conversational
    from recjax.envs.presets.ecommerce import Shop, ecommerce
    from recjax.envs.presets.music import Listening, music
    from recjax.envs.presets.news import Newsroom, news
    from recjax.envs.presets.session import session
    from recjax.envs.presets.video import Videos, video
    from recjax.envs.sims.coat import coat, coat_clicks
    from recjax.envs.sims.fitted import fitted
    from recjax.envs.sims.interest_evolution import interest_evolution
    from recjax.envs.sims.interest_exploration import interest_exploration
    from recjax.envs.sims.kuaisim import fit_kuaisim, kuaisim, kuaisim_faithful
    from recjax.envs.sims.leaving import Leaving, TooClose, TooOften, distances, too_close, too_often
    from recjax.envs.sims.logged import at_level, logged
    from recjax.envs.sims.long_term_satisfaction import long_term_satisfaction
    from recjax.envs.sims.matrix import matrix
    from recjax.envs.sims.recogym import RecogymSetting, recogym
    from recjax.envs.sims.sardine import sardine
    from recjax.envs.sims.sardine_users import SardineSetting
    from recjax.envs.sims.synthetic import synthetic
    from recjax.envs.sims.virtual_taobao import virtual_taobao
    from recjax.envs.users.exposures import Exposures, read_exposures
    from recjax.envs.users.kuaisim_network import KuaiSimNetwork
    from recjax.envs.users.networks import FactorNetwork, HistoryNetwork, UserNetwork
    from recjax.envs.users.realism import SessionComparison, SessionStatistic
    from recjax.envs.users.two_sample import TwoSamples, two_sample_test
    from recjax.envs.users.user_model import UserModel, UserModelConfig, fit_user_model
    from recjax.envs.users.user_model_report import BehaviourReport, UserModelReport

__all__ = [
    "BehaviourReport",
    "ChoiceModel",
    "Description",
    "Dialogue",
    "Environment",
    "Evidence",
    "Exposures",
    "FactorNetwork",
    "HistoryNetwork",
    "KuaiSimNetwork",
    "Leaving",
    "Listening",
    "Newsroom",
    "Oracle",
    "Preference",
    "PreferenceConfig",
    "PreferenceReport",
    "RecogymSetting",
    "ReliabilityBin",
    "ResponseModel",
    "SardineSetting",
    "SessionComparison",
    "SessionStatistic",
    "Shop",
    "TooClose",
    "TooOften",
    "Transition",
    "TwoSamples",
    "UserModel",
    "UserModelConfig",
    "UserModelReport",
    "UserNetwork",
    "Videos",
    "as_arrays",
    "at_level",
    "coat",
    "coat_clicks",
    "conversational",
    "describe",
    "distances",
    "ecommerce",
    "environments",
    "exponential_cascade",
    "fit_kuaisim",
    "fit_preference",
    "fit_user_model",
    "fitted",
    "interest_evolution",
    "interest_exploration",
    "kuaisim",
    "kuaisim_faithful",
    "logged",
    "long_term_satisfaction",
    "matrix",
    "multinomial_logit",
    "multinomial_proportional",
    "music",
    "news",
    "proportional_cascade",
    "read_evidence",
    "read_exposures",
    "recogym",
    "register",
    "sardine",
    "session",
    "synthetic",
    "too_close",
    "too_often",
    "two_sample_test",
    "video",
    "virtual_taobao",
]

lazy(__name__)
