"""The closed loop: act → respond → reward → store → learn, compiled.

>>> import jax
>>> from recjax import agents, envs, loop
>>> env = envs.environments.make("synthetic", num_items=50, slate_size=3)
>>> config = loop.LoopConfig(steps=4, chunk=2, eval_every=4, users=8, eval_users=8, eval_steps=2, seeds=2)
>>> result = loop.run(env, agents.agents.make("random"), config, key=jax.random.key(0))
>>> result.evaluations["ctr"].shape
(2, 2)
"""

from typing import TYPE_CHECKING

from recjax._lazy import lazy

if TYPE_CHECKING:
    from recjax.interrupt import Interrupted
    from recjax.loop.config import LoopConfig
    from recjax.loop.episodes import Episodes, episode_runner
    from recjax.loop.interact import Interaction, Users, follow
    from recjax.loop.offline import OfflineConfig, OfflineResult, learn_offline
    from recjax.loop.program import LoopState, Program
    from recjax.loop.run import Result, Saving, run, run_program
    from recjax.loop.sweep import Best, Sweep, sweep

__all__ = [
    "Best",
    "Episodes",
    "Interaction",
    "Interrupted",
    "LoopConfig",
    "LoopState",
    "OfflineConfig",
    "OfflineResult",
    "Program",
    "Result",
    "Saving",
    "Sweep",
    "Users",
    "episode_runner",
    "follow",
    "learn_offline",
    "run",
    "run_program",
    "sweep",
]

lazy(__name__)
