"""Bridges to Gymnasium: agents of other libraries on our users, and our agents on other environments.

>>> from recjax import adapters, envs
>>> env = adapters.gymnasium_env(envs.synthetic(num_items=30, slate_size=3, history_length=4))
>>> observation, info = env.reset(seed=0)
>>> env.action_space
MultiDiscrete([30 30 30])
>>> observation, reward, terminated, truncated, info = env.step([4, 8, 15])
>>> sorted(info)
['click', 'conversion', 'satisfaction']

Gymnasium is an optional dependency, ``pip install 'recjax[gymnasium]'``, and is imported when one of these functions
is called.
"""

from typing import TYPE_CHECKING

from recjax._lazy import lazy

if TYPE_CHECKING:
    from recjax.adapters.gymnasium_agents import (
        GymnasiumConfig,
        GymnasiumRun,
        GymnasiumUsers,
        evaluate_on_gymnasium,
        train_on_gymnasium,
    )
    from recjax.adapters.gymnasium_envs import gymnasium_env, gymnasium_vector_env, register_gymnasium

__all__ = [
    "GymnasiumConfig",
    "GymnasiumRun",
    "GymnasiumUsers",
    "evaluate_on_gymnasium",
    "gymnasium_env",
    "gymnasium_vector_env",
    "register_gymnasium",
    "train_on_gymnasium",
]

lazy(__name__)
