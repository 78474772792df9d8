"""User simulators: synthetic ones, those fitted to a log, and those that others have published."""

from recjax.envs.sims.coat import coat, coat_clicks
from recjax.envs.sims.fitted import fitted
from recjax.envs.sims.interest_evolution import interest_evolution
from recjax.envs.sims.interest_exploration import interest_exploration
from recjax.envs.sims.kuaisim import fit_kuaisim, kuaisim, kuaisim_faithful
from recjax.envs.sims.logged import logged
from recjax.envs.sims.long_term_satisfaction import long_term_satisfaction
from recjax.envs.sims.matrix import matrix
from recjax.envs.sims.recogym import recogym
from recjax.envs.sims.sardine import sardine
from recjax.envs.sims.synthetic import synthetic
from recjax.envs.sims.virtual_taobao import virtual_taobao

__all__ = [
    "coat",
    "coat_clicks",
    "fit_kuaisim",
    "fitted",
    "interest_evolution",
    "interest_exploration",
    "kuaisim",
    "kuaisim_faithful",
    "logged",
    "long_term_satisfaction",
    "matrix",
    "recogym",
    "sardine",
    "synthetic",
    "virtual_taobao",
]
