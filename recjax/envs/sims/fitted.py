"""The users of a log, as a model that was fitted to it says: what they do with what they are shown, when they leave.

How one user answers a slate is told in :mod:`recjax.envs.users.answering`, and how the model is fitted in
:mod:`recjax.envs.users.user_model`. Nothing is declared: where the log tells little, members of the ensemble disagree,
and so do the users who are drawn from it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from recjax.catalogue import BlockScorer, top_k
from recjax.data import Dataset, Sequences, item_features, last_histories
from recjax.envs.base import Environment, Oracle, Transition, register
from recjax.envs.users.answering import Params, Rules, User, arrive, expected, respond
from recjax.envs.users.exposures import read_exposures, signals_of
from recjax.envs.users.joint import each
from recjax.envs.users.user_model import UserModel, UserModelConfig, fit_user_model
from recjax.response import Response
from recjax.rewards import Reward, parse
from recjax.types import Array, Observation, PyTree, Revealed, Spec

WORTH = (0.25, 0.5, 1.0, 2.0, 4.0)
"""What any answer is worth beside its reward, since answered users stay: the family of the look-ahead oracle."""

ITEMS_AT_ONCE = 2048
"""Items that oracles rate at once."""


@register("fitted")
def fitted(
    dataset: Dataset,
    *,
    user_model: UserModel | None = None,
    config: UserModelConfig = UserModelConfig(),  # noqa: B008 (frozen)
    pessimism: float | None = None,
    reward: str | None = None,
    slate_size: int = 5,
    max_steps: int = 100,
    key: Array | None = None,
) -> Environment:
    """Users of a log, drawn uniformly, who do what a model fitted to the log says.

    Signals are the behaviours of the log ("click", "cart", "purchase", "like", …), each 1 where a slot was answered so.
    Histories begin with what the log holds of a user, as long as the model reads; with ``Spec.has_impressions`` they
    hold what was not answered, too.

    Args:
      dataset: the log.
      user_model: of :func:`recjax.envs.fit_user_model` on this log with this ``config``; fitted here if None, which
        takes minutes, and its report is not kept.
      config: how the log is read, and users are fitted to it.
      pessimism: every user is a member of the ensemble, drawn on arrival, if None; or the mean of all, where all
        that a user may do loses so many standard deviations of its probability over members, at least 0.
      reward: what the oracles gain, as :func:`recjax.rewards.parse` takes it and linear in the signals; "click", or
        else the weakest behaviour, by default.
      slate_size: slots of a slate.
      max_steps: slates after which a session is cut.
      key: PRNG key of the fit; ``jax.random.key(0)`` by default.

    Returns:
      The environment. ``Observation.context`` holds the data set's user features, where it has any.

    Raises:
      ValueError: the model is of other items or behaviours, an argument is out of range, or the log cannot be fitted.
    """
    if max_steps < 1 or (pessimism is not None and not pessimism >= 0):
        raise ValueError(
            f"fitted got max_steps={max_steps}, pessimism={pessimism}; it needs max_steps >= 1 and pessimism >= 0 or"
            " None."
        )
    model = fit_user_model(dataset, config, key=key)[0] if user_model is None else user_model
    exposures = read_exposures(dataset, config.reading, columns=config.columns, session_gap=config.session_gap)
    if model.behaviours != exposures.behaviours:
        raise ValueError(
            f"The model is of {_names(model)}, but this config reads"
            f" {', '.join(one.name for one in exposures.behaviours)} in {dataset.name}; fit it to this data set."
        )
    params = Params(model.networks, model.ends, item_features(dataset), arrivals(dataset, exposures.sequences, model))
    rules = Rules(model.network, model.behaviours, model.has_impressions, max_steps, pessimism)
    signals = signals_of(model.behaviours)
    if reward is None:
        reward = "click" if "click" in [one.name for one in signals] else f"{signals[0].name}=1"
    return Environment(
        Spec(
            num_items=dataset.num_items,
            slate_size=slate_size,
            history_length=model.history_length,
            context_size=0 if dataset.context is None else dataset.context.shape[1],
            has_impressions=model.has_impressions,
            signals=signals,
        ),
        params,
        params.items,
        reset=reset,
        step=partial(_step, rules=rules),
        oracles=oracles(rules, slate_size, parse(reward)),
    )


def _names(model: UserModel) -> str:
    return ", ".join(one.name for one in model.behaviours)


def arrivals(dataset: Dataset, sequences: Sequences, model: UserModel) -> Observation:
    """What the log holds of every user at its end, leaves ``[U, ...]``."""
    history, behaviour = last_histories(sequences, model.history_length)
    context = None if dataset.context is None else jnp.asarray(dataset.context, jnp.float32)
    return Observation(history, behaviour, context)


def reset(key: Array, params: Params, world: PyTree) -> tuple[Observation, User]:
    """A user of the log arrives, as one member of the ensemble."""
    members = jax.tree.leaves(params.networks)[0].shape[0]
    sizes = np.array([params.arrivals.history.shape[0], members])
    user, member = jnp.floor(jax.random.uniform(key, (2,)) * sizes).astype(jnp.int32)
    # Rounding may bring a number below 1 up to the size.
    state = arrive(jnp.minimum(user, sizes[0] - 1), jnp.minimum(member, members - 1), params)
    return state.observation, state


def _step(key: Array, state: User, slate: Array, params: Params, world: PyTree, *, rules: Rules) -> Transition:
    return respond(key, state, slate, params, rules)


def oracles(rules: Rules, slate_size: int, reward: Reward) -> dict[str, Oracle]:
    """The yardsticks of fitted users; neither shows an item of the observed history.

    * ``myopic`` shows the items with the largest expected reward of this step. Items of a slate are answered
      independently, so no slate has a larger one.
    * ``look_ahead`` adds a worth of being answered at all, the best of some, since answered users stay.
    """

    def choose(key: Array, users: Revealed, setting: PyTree) -> Array:
        del key
        values = partial(_values, users.params, rules, reward, 0.0 if setting is None else setting)
        scorer = _scorer(values, users.params.items.num_items)
        return top_k(users.state, scorer, slate_size, exclude=users.observation.history)[1]

    return {
        "myopic": Oracle(choose, "the items with the largest expected reward of this step, by the model"),
        "look_ahead": Oracle(
            choose,
            f"the same, where any answer is worth something beside (the best of {len(WORTH)} values): a lower bound",
            jnp.asarray((0.0, *WORTH)),
        ),
    }


def _values(params: Params, rules: Rules, reward: Reward, worth: Array | float, user: User, ids: Array) -> Array:
    """What each of ``ids: i32[M]`` brings one user, ``f32[M]``."""
    found = expected(user, ids, params, rules)
    done = each(found)
    response = Response(**{one.name.lower(): done[:, column] for column, one in enumerate(rules.behaviours)})
    return reward(response) + worth * (1.0 - found[:, 0])


def _scorer(values: Callable[[User, Array], Array], num_items: int) -> BlockScorer:
    def of_ids(users: User, ids: Array) -> Array:
        return jax.vmap(values)(users, ids)

    def of_block(users: User, start: Array | int, size: int) -> Array:
        return jax.vmap(values, in_axes=(0, None))(users, start + jnp.arange(size))

    return BlockScorer(of_block, num_items, of_ids, block_size=min(ITEMS_AT_ONCE, num_items))
