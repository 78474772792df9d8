"""User simulators: those that need no data, and those fitted to a log."""

from recjax.envs.sims.interest_evolution import interest_evolution
from recjax.envs.sims.interest_exploration import interest_exploration
from recjax.envs.sims.logged import logged
from recjax.envs.sims.long_term_satisfaction import long_term_satisfaction
from recjax.envs.sims.synthetic import synthetic

__all__ = ["interest_evolution", "interest_exploration", "logged", "long_term_satisfaction", "synthetic"]
