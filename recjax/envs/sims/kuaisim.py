"""Users in the style of KuaiSim, over its user response model fitted to a log: a request, a session, several sessions.

With scores ``s_ik`` of item ``i`` and behaviour ``k`` (:mod:`recjax.envs.users.kuaisim_network`), encodings ``e_i`` of
unit length ``u_i``, and weights ``w_k``:

* answers: ``y_ik`` is 1 with probability ``max(0, sigmoid(s_ik) - rho * c_i)``, independently, where
  ``c_i = mean_j <u_i, u_j>`` over the slate, the item itself among them;
* reward of a slate: ``r = mean_i sum_k w_k y_ik``;
* ``level="request"``: temper begins at 20 and falls by 1 a slate; all sessions are cut (truncated) when it is below 1.
  There is no ``c_i``;
* ``level="session"``: ``temper += clip(r - 2, -2, 0)``, and the user leaves (terminated) when it is below 1;
* ``level="cross_session"``: an action is a vector ``a_k``; shown are the items with the largest
  ``sum_k a_k sigmoid(s_ik)`` of the catalogue, answered with probability ``sigmoid(s_ik)``. Temper begins at 5 and
  falls by 1 a slate. When it is below 1 the session ends, and the user returns after ``d`` in 1 .. 10 days with
  probability in proportion to ``P (1 - P)^(d - 1)``, ``P = clip(b(state) + .1 R + .4, .001, .999)``, where ``R`` is the
  mean of ``r`` over the session and ``b`` a random affine map. After 6 sessions the episode is cut (truncated).

The history gets everything that was shown, with the strongest behaviour, so logs should hold what was not taken, too.

Quirks that ``faithful`` repeats:

* a sigmoid of a sigmoid: ``sigmoid(s)`` is taken for a logit in training and in requests and sessions, so that
  probabilities lie between .5 and .731, and a slate of anything is answered more often than not;
* ``c_i`` is the mean, not the sum, over the numbers of ``u_i * u_j``, so at most 1/64, and ``rho`` has no effect to
  speak of;
* dropout stays on in the simulator (so does batch norm in the original, which this network has no counterpart of).

References:
  Zhao et al., "KuaiSim: A Comprehensive Simulator for Recommender Systems", NeurIPS 2023; its ``code/env``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from functools import partial
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np

from recjax.data import Dataset, item_features
from recjax.envs.base import Environment, register
from recjax.envs.sims.fitted import arrivals
from recjax.envs.sims.kuaisim_oracles import slate_oracles, vector_oracles
from recjax.envs.sims.kuaisim_users import Level, Params, Rules, reset, step, step_vector
from recjax.envs.users.exposures import read_exposures, signals_of
from recjax.envs.users.kuaisim_network import KuaiSimNetwork
from recjax.envs.users.learning import Predictor, examples_of, fit_members
from recjax.envs.users.user_model import UserModel, UserModelConfig, hold_out
from recjax.response import Signal
from recjax.types import Array, Spec

TEMPER = {"request": 20.0, "session": 20.0, "cross_session": 5.0}
RETURN = Signal("return_days", "Days until the user returns, at the end of a session; 0 before", unit="d")

CONFIG = UserModelConfig(members=1, width=64, history_length=100, epochs=10, learning_rate=1e-4)
"""As the original trains, but for AdamW and for the epoch, which is the one that predicts a part of the log best."""


@register("kuaisim")
def kuaisim(
    dataset: Dataset,
    *,
    level: Level = "session",
    user_model: UserModel | None = None,
    config: UserModelConfig = CONFIG,
    faithful: bool = False,
    slate_size: int = 6,
    rho: float = 0.2,
    temper: float | None = None,
    weights: Mapping[str, float] | None = None,
    key: Array | None = None,
) -> Environment:
    """KuaiSim's users, fitted to a log.

    Signals are the behaviours of the log. Those of ``level="cross_session"``, where actions are vectors, are shares of
    the slate that was shown, and there is "return_days" beside (``reward="return_days=-0.1"``); it rates the whole
    catalogue in every step, block by block, as its definition demands. Requests are rewarded by all behaviours
    (``reward="click=1,like=1"``).

    Args:
      dataset: the log.
      level: see above.
      user_model: of :func:`recjax.envs.fit_kuaisim` on this log with this ``config`` and ``faithful``; fitted here if
        None.
      config: how the log is read and the model is fitted; ``network`` and ``members`` are not read.
      faithful: repeats the original's quirks, see above.
      slate_size: slots of a slate, or items that are shown for a vector.
      rho: weight of similarity within a slate in ``level="session"``.
      temper: with which a session begins; 20, or 5 of several sessions, if None.
      weights: what behaviours count for in ``r``, by name; by default 1 for "click" (or else the weakest behaviour)
        alone, of several sessions for all.
      key: PRNG key of the fit; ``jax.random.key(0)`` by default.

    Returns:
      The environment. ``oracles``: "myopic" and "look_ahead".

    Raises:
      ValueError: an argument is out of range, the model is another's, or the log cannot be fitted.
    """
    if level not in get_args(Level):
        raise ValueError(f"level is {level!r}; choose one of {', '.join(get_args(Level))}.")
    start = TEMPER[level] if temper is None else temper
    if not rho >= 0 or not start >= 1:
        raise ValueError(f"kuaisim got rho={rho}, temper={temper}; it needs rho >= 0 and temper >= 1.")
    model = fit_kuaisim(dataset, config, faithful=faithful, key=key) if user_model is None else user_model
    network = model.network
    if not isinstance(network, KuaiSimNetwork) or network.double_sigmoid != faithful:
        raise ValueError(
            f"kuaisim with faithful={faithful} needs a model of fit_kuaisim(faithful={faithful}); got one over"
            f" {type(network).__name__}."
        )
    rules = Rules(network, model.behaviours, level, rho, start, slate_size, faithful)
    exposures = read_exposures(dataset, config.reading, columns=config.columns, session_gap=config.session_gap)
    signals = signals_of(model.behaviours)
    params = Params(
        network=jax.tree.map(lambda leaf: leaf[0], model.networks),
        items=item_features(dataset),
        arrivals=arrivals(dataset, exposures.sequences, model),
        weights=_weights(weights, [signal.name for signal in signals], level),
        returning=_returning(3 * network.width),
    )
    vectors = level == "cross_session"
    if vectors:
        shares = (dataclasses.replace(one, is_flag=False, doc=f"Mean over the slate of: {one.doc}") for one in signals)
        signals = (*shares, RETURN)
    return Environment(
        Spec(
            num_items=dataset.num_items,
            slate_size=1 if vectors else slate_size,
            history_length=model.history_length,
            context_size=0 if dataset.context is None else dataset.context.shape[1],
            action_size=len(model.behaviours) if vectors else 0,
            has_impressions=True,
            signals=signals,
        ),
        params,
        params.items,
        reset=partial(reset, rules=rules),
        step=partial(step_vector if vectors else step, rules=rules),
        oracles=vector_oracles(params.weights) if vectors else slate_oracles(rules),
    )


@register("kuaisim_faithful")
def kuaisim_faithful(dataset: Dataset, **options: Any) -> Environment:
    """:func:`recjax.envs.kuaisim` with the quirks of the original."""
    return kuaisim(dataset, faithful=True, **options)


def fit_kuaisim(
    dataset: Dataset, config: UserModelConfig = CONFIG, *, faithful: bool = False, key: Array | None = None
) -> UserModel:
    """Fits KuaiSim's user response model to a log.

    What was not done weighs as much in all, behaviour by behaviour, as what was: probabilities are those of a world
    in which each behaviour is as frequent as its absence.

    Args:
      dataset: the log.
      config: how it is read and fitted; ``network`` and ``members`` are not read.
      faithful: whether with the original's double sigmoid.
      key: PRNG key of parameters, shuffles and dropout; ``jax.random.key(0)`` by default.

    Raises:
      ValueError: the log has nothing of the kind that ``config`` asks for, or no part of it is left to stop by.
    """
    key = jax.random.key(0) if key is None else key
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    exposures = read_exposures(dataset, config.reading, columns=config.columns, session_gap=config.session_gap)
    parts = hold_out(exposures, config.held_out, config.validation, rng)
    network = KuaiSimNetwork(
        len(exposures.behaviours), exposures.num_users, exposures.num_items, width=config.width,
        history_length=config.history_length, double_sigmoid=faithful,
    )  # fmt: skip
    context = None if dataset.context is None else jnp.asarray(dataset.context, jnp.float32)
    predictor = Predictor(network, config.history_length, item_features(dataset, new_share=0.0), context)
    train, validation = (examples_of(exposures, rows, rng, balanced=True) for rows in parts[:2])
    networks = fit_members(predictor, exposures, train, validation, dataclasses.replace(config, members=1), key)
    return UserModel(networks, jnp.zeros(3), network, exposures.behaviours, True, config.history_length)


def _weights(weights: Mapping[str, float] | None, names: list[str], level: Level) -> Array:
    if weights is None:
        counted = names if level == "cross_session" else ["click"] if "click" in names else names[:1]
        weights = dict.fromkeys(counted, 1.0)
    unknown = sorted(set(weights) - set(names))
    if unknown:
        raise ValueError(f"weights has {', '.join(unknown)}; the behaviours of this log are {', '.join(names)}.")
    return jnp.array([weights.get(name, 0.0) for name in names], jnp.float32)


def _returning(size: int) -> Array:
    """A linear layer as it starts, the same for every log."""
    bound = 1.0 / math.sqrt(size)
    return jax.random.uniform(jax.random.key(6), (size + 1,), minval=-bound, maxval=bound)
