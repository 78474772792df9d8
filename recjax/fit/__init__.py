"""Training: steps, epochs, adaptation, schedules, checkpoints, progress, devices.

>>> import jax, jax.numpy as jnp
>>> from recjax import fit
>>> def loss_fn(params, batch, key):
...     prediction = batch["x"] @ params
...     return jnp.mean((prediction - batch["y"]) ** 2), {}
>>> x = jax.random.normal(jax.random.key(0), (64, 3))
>>> data = {"x": x, "y": x @ jnp.array([1.0, 2.0, 3.0])}
>>> optimizer = fit.adamw(0.3, max_grad_norm=10.0)
>>> plan = fit.TrainingPlan(epochs=30, batch_size=16)
>>> fitted = fit.fit_epochs(loss_fn, optimizer, jnp.zeros(3), data, plan, key=jax.random.key(1))
>>> bool(fitted.history[-1]["loss"] < 1e-3)
True
"""

from recjax.fit.adapt import Adaptation, Select, chain, lora, only
from recjax.fit.checkpoints import Checkpoints
from recjax.fit.descent import Descent, Optimizer, Switch, descend
from recjax.fit.devices import pmap_update, shard_seeds
from recjax.fit.diverged import Diverged
from recjax.fit.epochs import FitState, Fitted, fit_epochs, make_epoch
from recjax.fit.hooks import Callback, EarlyStopping, Hooks
from recjax.fit.layers import Rates, layer_wise, path_wise
from recjax.fit.plan import Batches, Gather, TrainingPlan, bucketed, shuffled, take
from recjax.fit.progress import Progress, Task
from recjax.fit.resume import optimizer_digest, resumed, tree_digest
from recjax.fit.row_wise import RowWise, rows_pay
from recjax.fit.schedules import Schedule, constant, cosine, learning_rates, linear, linear_decay
from recjax.fit.step import LossFn, TrainState, Update, adafactor, adamw, gradient_step, make_update, optimizers

__all__ = [
    "Adaptation",
    "Batches",
    "Callback",
    "Checkpoints",
    "Descent",
    "Diverged",
    "EarlyStopping",
    "FitState",
    "Fitted",
    "Gather",
    "Hooks",
    "LossFn",
    "Optimizer",
    "Progress",
    "Rates",
    "RowWise",
    "Schedule",
    "Select",
    "Switch",
    "Task",
    "TrainState",
    "TrainingPlan",
    "Update",
    "adafactor",
    "adamw",
    "bucketed",
    "chain",
    "constant",
    "cosine",
    "descend",
    "fit_epochs",
    "gradient_step",
    "layer_wise",
    "learning_rates",
    "linear",
    "linear_decay",
    "lora",
    "make_epoch",
    "make_update",
    "only",
    "optimizer_digest",
    "optimizers",
    "path_wise",
    "pmap_update",
    "resumed",
    "rows_pay",
    "shard_seeds",
    "shuffled",
    "take",
    "tree_digest",
]
