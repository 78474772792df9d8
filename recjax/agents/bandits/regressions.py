"""What bandits learn of rewards: a mean of each item, or weights of features, and how sure they are of it."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from flax import struct

from recjax.agents.bandits import ridge
from recjax.agents.bandits.designs import ONE_MODEL, FeatureMap, Models, context_features, item_features
from recjax.agents.bandits.ridge import Ridge
from recjax.losses import masked_mean
from recjax.types import Array, Items, Observation, PyTree, Spec, shown_items


class Estimate(NamedTuple):
    """What is known of the rewards of choices.

    Attributes:
      mean: ``f32[B, M]`` expected rewards.
      spread: ``f32[B, M, D]`` whose norm says how far they may be off: a standard deviation in units of the noise.
    """

    mean: Array
    spread: Array

    @property
    def deviation(self) -> Array:
        """``f32[B, M]``, the norm of the spread."""
        return jnp.linalg.norm(self.spread, axis=-1)


class Seen(NamedTuple):
    """What was shown to a batch of users and what it earned.

    Attributes:
      observation: of the users.
      items: what a platform knows of the items.
      choices: ``i32[B, K]`` items (positions in the candidates), in range.
      reward: ``f32[B, K]``.
      is_learned: ``bool[B, K]``, False where nothing was shown or nothing must be learned.
    """

    observation: Observation
    items: Items
    choices: Array
    reward: Array
    is_learned: Array


class Regression(Protocol):
    """How a bandit learns what users and items are worth together."""

    @property
    def per_item(self) -> bool:
        """Whether what is known of one item says nothing of the others."""
        ...

    def width(self, model: PyTree) -> int:
        """``D`` of :class:`Estimate`."""
        ...

    def size(self, model: PyTree) -> int:
        """Numbers that lie in memory for each choice of each user while it is rated."""
        ...

    def init(self, key: Array, spec: Spec, items: Items, hparams: Any, params: PyTree) -> PyTree:
        """The model before anything was seen; ``params`` may start it."""
        ...

    def estimate(self, model: PyTree, observation: Observation, items: Items, choices: Array) -> Estimate:
        """What the model says of ``choices: i32[B, M]``, as :class:`FeatureMap` takes them."""
        ...

    def observe(self, model: PyTree, hparams: Any, seen: Seen) -> tuple[PyTree, dict[str, Array]]:
        """The model after what was seen, and scalars of the update."""
        ...


def no_params(params: PyTree) -> None:
    """Raises ValueError where a model that has no network is given parameters to start from."""
    if params is not None:
        raise ValueError("This bandit has no network to start from params; pass params=None.")


@struct.dataclass
class MeanTable:
    """Means of rewards.

    Attributes:
      mean: ``f32[G, N]``, 0 before the first reward.
      count: ``f32[G, N]`` rewards of each item.
      total: ``f32[G]`` rewards of all items.
    """

    mean: Array
    count: Array
    total: Array


@dataclasses.dataclass(frozen=True)
class Means:
    """The mean reward of each item, which is all that bandits without features know.

    What it does not know is Hoeffding's half width ``sqrt(2 ln t / n)`` of rewards in [0, 1], with ``n`` rewards of the
    item and ``t`` of all; infinite for an item that was never shown. Memory is ``models.count * N``.

    Attributes:
      models: a table for all users, or one for each (:func:`user_models`).

    References:
      Auer, Cesa-Bianchi, Fischer, "Finite-time Analysis of the Multiarmed Bandit Problem", Machine Learning 47, 2002.
    """

    models: Models = ONE_MODEL

    def __post_init__(self) -> None:
        if self.models.per_item:
            raise ValueError("Means has a mean for each item already; give models of users, or ONE_MODEL.")

    @property
    def per_item(self) -> bool:
        """See :class:`Regression`."""
        return True

    def width(self, model: MeanTable) -> int:
        """See :class:`Regression`."""
        del model
        return 1

    def size(self, model: MeanTable) -> int:
        """See :class:`Regression`."""
        del model
        return 1

    def init(self, key: Array, spec: Spec, items: Items, hparams: Any, params: PyTree) -> MeanTable:
        """See :class:`Regression`."""
        del key, items, hparams
        no_params(params)
        blank = jnp.zeros((self.models.count, spec.num_items))
        return MeanTable(blank, blank, blank[:, 0])

    def estimate(self, model: MeanTable, observation: Observation, items: Items, choices: Array) -> Estimate:
        """See :class:`Regression`."""
        del items
        rows, ids = self.models.rows(observation, choices), shown_items(choices, observation)
        count = model.count[rows, ids]
        # With 2 for t = 1 the first bound is no product of 0 and infinity.
        log_total = jnp.log(jnp.maximum(model.total[rows], 2.0))
        width = jnp.where(count > 0, jnp.sqrt(2 * log_total / jnp.maximum(count, 1.0)), jnp.inf)
        return Estimate(model.mean[rows, ids], width[..., None])

    def observe(self, model: MeanTable, hparams: Any, seen: Seen) -> tuple[MeanTable, dict[str, Array]]:
        """See :class:`Regression`."""
        del hparams
        ids = shown_items(seen.choices, seen.observation)
        rows = jnp.broadcast_to(self.models.rows(seen.observation, seen.choices), ids.shape)
        once = seen.is_learned.astype(jnp.float32)
        error = jnp.where(seen.is_learned, seen.reward - model.mean[rows, ids], 0.0)
        count = model.count.at[rows, ids].add(once)
        learned = MeanTable(
            mean=model.mean.at[rows, ids].add(error / jnp.maximum(count[rows, ids], 1.0)),
            count=count,
            total=model.total.at[rows].add(once),
        )
        return learned, {"loss": masked_mean(error**2, seen.is_learned)}


@dataclasses.dataclass(frozen=True)
class Linear:
    """Rewards that are linear in features, by ridge regression (see :mod:`recjax.agents.bandits.ridge`).

    A step costs ``D**2`` an observation and ``D**3`` a model, whatever was seen before.

    Attributes:
      features: what is known of a user and an item.
      models: one for all, one a user, or one an item.
    """

    features: FeatureMap = item_features
    models: Models = ONE_MODEL

    @property
    def per_item(self) -> bool:
        """See :class:`Regression`."""
        return self.models.per_item

    def width(self, model: Ridge) -> int:
        """See :class:`Regression`."""
        return model.mean.shape[1]

    def size(self, model: Ridge) -> int:
        """See :class:`Regression`."""
        return self.width(model) ** (2 if self.per_item else 1)

    def init(self, key: Array, spec: Spec, items: Items, hparams: Any, params: PyTree) -> Ridge:
        """See :class:`Regression`; raises ValueError where the features tell items not apart."""
        del key
        no_params(params)
        width = feature_width(self.features, spec, items)
        if not self.per_item and (self.features is context_features or (self.features is item_features and width == 1)):
            raise ValueError(
                f"{getattr(self.features, '__name__', self.features)} with one model says the same of all items; use"
                " Means(), Linear(context_features, item_models()), or a FeatureMap of your own."
            )
        return ridge.prior(self.models.number(spec.num_items), width, hparams.regularisation)

    def estimate(self, model: Ridge, observation: Observation, items: Items, choices: Array) -> Estimate:
        """See :class:`Regression`."""
        features, rows = self.features(observation, items, choices), self.models.rows(observation, choices)
        return Estimate(ridge.predict(model, features, rows), ridge.spread(model, features, rows))

    def observe(self, model: Ridge, hparams: Any, seen: Seen) -> tuple[Ridge, dict[str, Array]]:
        """See :class:`Regression`."""
        del hparams
        features = self.features(seen.observation, seen.items, seen.choices)
        rows = self.models.rows(seen.observation, seen.choices)
        error = seen.reward - ridge.predict(model, features, rows)
        each = jnp.broadcast_to(rows, seen.choices.shape).ravel() % len(model.mean)
        known = jnp.where(seen.is_learned[..., None], features, 0.0).reshape(len(each), -1)
        rewards = jnp.where(seen.is_learned, seen.reward, 0.0).ravel()
        return ridge.observe(model, known, each, rewards), {"loss": masked_mean(error**2, seen.is_learned)}


def feature_width(features: FeatureMap, spec: Spec, items: Items) -> int:
    """``D``.

    Raises:
      ValueError: the feature map gives no ``f32[B, M, D]``.
    """
    observation, choices = spec.empty_observation((1,)), jnp.zeros((1, 2), jnp.int32)
    found = jax.eval_shape(features, observation, items, choices)
    if found.shape[:2] != (1, 2) or len(found.shape) != 3:
        raise ValueError(f"A feature map of 1 user and 2 choices gives {found.shape}; it must be (1, 2, D).")
    return found.shape[2]
