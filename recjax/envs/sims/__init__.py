"""User simulators: synthetic ones, those fitted to a log, and those that others have published."""

from recjax.envs.sims.logged import logged
from recjax.envs.sims.recogym import recogym
from recjax.envs.sims.sardine import sardine
from recjax.envs.sims.synthetic import synthetic

__all__ = ["logged", "recogym", "sardine", "synthetic"]
