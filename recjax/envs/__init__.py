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
    from recjax.envs.sims.interest_evolution import interest_evolution
    from recjax.envs.sims.interest_exploration import interest_exploration
    from recjax.envs.sims.logged import at_level, logged
    from recjax.envs.sims.long_term_satisfaction import long_term_satisfaction
    from recjax.envs.sims.synthetic import synthetic

__all__ = [
    "ChoiceModel",
    "Description",
    "Environment",
    "Evidence",
    "Oracle",
    "Preference",
    "PreferenceConfig",
    "PreferenceReport",
    "ReliabilityBin",
    "ResponseModel",
    "Transition",
    "as_arrays",
    "at_level",
    "describe",
    "environments",
    "exponential_cascade",
    "fit_preference",
    "interest_evolution",
    "interest_exploration",
    "logged",
    "long_term_satisfaction",
    "multinomial_logit",
    "multinomial_proportional",
    "proportional_cascade",
    "read_evidence",
    "register",
    "synthetic",
]

lazy(__name__)
