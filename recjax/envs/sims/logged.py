"""A simulator of the users of a log: their fitted tastes, their last items, declared responses."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct

from recjax.data import Dataset, Interactions, item_features, last_histories, sequences, without_impressions
from recjax.envs.base import Environment, register
from recjax.envs.choice import dynamics
from recjax.envs.choice.response_model import ResponseModel
from recjax.envs.preference import Preference, fit_preference
from recjax.envs.preference_report import PreferenceReport
from recjax.envs.sims.population import Params, environment
from recjax.types import Array, Observation, Spec


@struct.dataclass
class Population:
    """The users of a log, one row each.

    Attributes:
      vectors: ``f32[U, T]`` preference factors.
      bias: ``f32[U]`` logits.
      observations: what the platform has logged of them, with leading ``[U]``.
    """

    vectors: Array
    bias: Array
    observations: Observation


@register("logged")
def logged(
    dataset: Dataset,
    *,
    preference: Preference | None = None,
    response_model: ResponseModel | None = None,
    train: Interactions | None = None,
    slate_size: int = 5,
    history_length: int = 20,
    key: Array | None = None,
) -> Environment:
    """Users of a log, drawn uniformly, who answer slates of the log's items.

    A log of ratings or clicks has no slates. What a user likes is therefore fitted to all its
    interactions, and the rest of the response is declared. For pairs that the log does not
    contain, the fit extrapolates from items that users chose to see.

    An arriving user's history is the end of their part of ``train``, whether the items were
    liked or not, since that is what next-item models are trained on; clicks made in the
    simulator follow it.

    Args:
      dataset: the log.
      preference: who likes what; fitted to the log by :func:`recjax.envs.fit_preference`, and brought to the level
        of clicks that the log tells (:func:`recjax.envs.at_level`), if None.
      response_model: declared parameters of the response; the defaults of ``ResponseModel`` if None.
      train: the part of the log that policies may know. Histories, popularity and which items are
        known come from it alone; if None, the whole log but for items that were only shown.
      slate_size: slots of a slate.
      history_length: positions of a history.
      key: PRNG key of the fit; ``jax.random.key(0)`` by default.

    Returns:
      The environment. ``Observation.context`` holds the data set's user features, where it has any.

    Raises:
      ValueError: the preference was fitted to other users or items, or the log cannot be fitted.
    """
    train = without_impressions(dataset).interactions if train is None else train
    if preference is None:
        preference = at_level(*fit_preference(dataset, key=key))
    fitted = len(preference.user_bias), len(preference.item_bias)
    if fitted != (dataset.num_users, dataset.num_items):
        raise ValueError(
            f"The preference is of {fitted[0]} users and {fitted[1]} items, but {dataset.name} has"
            f" {dataset.num_users} users and {dataset.num_items} items; fit it to this data set."
        )
    history, behaviour = last_histories(sequences(train, dataset.num_users), history_length)
    context = None if dataset.context is None else jnp.asarray(dataset.context, jnp.float32)
    return environment(
        Spec(
            num_items=dataset.num_items,
            slate_size=slate_size,
            history_length=history_length,
            context_size=0 if context is None else context.shape[1],
            signals=dynamics.SIGNALS,
        ),
        item_features(dataset, train),
        ResponseModel() if response_model is None else response_model,
        preference.item_vectors,
        preference.item_bias,
        Population(
            vectors=preference.user_vectors,
            bias=preference.user_bias,
            observations=Observation(
                history=jnp.asarray(history, jnp.int32), behaviour=jnp.asarray(behaviour, jnp.int32), context=context
            ),
        ),
        _draw,
    )


def at_level(preference: Preference, report: PreferenceReport) -> Preference:
    """A fitted preference as the response model takes it.

    Of impressions, what was fitted are odds of taking one item that is shown. They are those of the simulator at the
    default ``no_click_logit`` once it is added to the logits; for other logs the level is declared, and stays.
    """
    if report.feedback != "impressions":
        return preference
    level = ResponseModel().no_click_logit
    return preference.replace(item_bias=preference.item_bias + level)  # type: ignore[attr-defined]


def _draw(key: Array, params: Params) -> tuple[Array, Array, Array, Observation]:
    population = params.population
    user = jax.random.randint(key, (), 0, len(population.bias))
    observation = jax.tree.map(lambda leaf: leaf[user], population.observations)
    return user, population.vectors[user], population.bias[user], observation
