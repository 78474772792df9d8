"""User simulators: synthetic ones, and those fitted to a log."""

from recjax.envs.sims.logged import logged
from recjax.envs.sims.synthetic import synthetic

__all__ = ["logged", "synthetic"]
