"""A model of the users of a log: what they do with items that they are shown, and when they leave.

It is an ensemble of networks of one class. Every member is trained from a start of its own on users weighed by
exponential random numbers, the Bayesian bootstrap, so that members agree where the log tells enough and disagree where
it does not: what they disagree on is an error that the model knows of.

References:
  Rubin, "The Bayesian bootstrap", Annals of Statistics 9, 1981.
  Lakshminarayanan et al., "Simple and scalable predictive uncertainty estimation using deep ensembles", NeurIPS 2017.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from recjax.data import Dataset, item_features
from recjax.envs.preference_config import PreferenceConfig
from recjax.envs.users.exposures import Exposures, read_exposures
from recjax.envs.users.learning import Predictor, examples_of, fit_members
from recjax.envs.users.networks import FactorNetwork, HistoryNetwork, UserNetwork
from recjax.envs.users.realism import compare_sessions
from recjax.envs.users.session_ends import fit_session_ends
from recjax.envs.users.user_model_report import UserModelReport, measure
from recjax.nn import ItemTower, UserTower, history_encoders
from recjax.types import Array, Behaviour, Items, PyTree

FACTORS = "factors"
"""The network that knows users by ids; all others are named by their history encoders."""


@dataclasses.dataclass(frozen=True)
class UserModelConfig:
    """How a log is read and users are fitted to it.

    Attributes:
      network: what class of model: "factors" (matrix factorisation over ids), or an encoder of histories by name,
        such as "mean", "gru" or "attention".
      members: networks of the ensemble.
      width: of vectors or factors.
      history_length: events of a history that are read.
      epochs: passes over the log, at most; training stops when ``validation`` says so.
      batch_size: exposures in a batch.
      learning_rate: of AdamW.
      weight_decay: of AdamW.
      held_out: share of the exposures by which the report measures, and to which nothing is fitted. From a moment on
        that is drawn without looking at what follows, all of a user's exposures are.
      validation: share of every user's others, the newest, by which training stops.
      patience: epochs without improvement after which it stops.
      reading: see :func:`recjax.envs.read_exposures`, as the next two.
      columns: see there.
      session_gap: see there.
    """

    network: str = "mean"
    members: int = 4
    width: int = 32
    history_length: int = 20
    epochs: int = 20
    batch_size: int = 512
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    held_out: float = 0.2
    validation: float = 0.1
    patience: int = 2
    reading: PreferenceConfig = PreferenceConfig()  # noqa: RUF009 (frozen)
    columns: Mapping[str, Behaviour] = dataclasses.field(default_factory=dict)
    session_gap: float = 1800.0

    def __post_init__(self) -> None:
        known = (FACTORS, *history_encoders)
        if self.network not in known:
            raise ValueError(f"UserModelConfig.network is {self.network!r}; choose one of {', '.join(known)}.")
        for name in ("members", "width", "history_length", "epochs", "batch_size", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"UserModelConfig.{name} is {getattr(self, name)}; it must be at least 1.")
        for name in ("held_out", "validation"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"UserModelConfig.{name} is {getattr(self, name)}; it must lie in (0, 1).")


@struct.dataclass
class UserModel:
    """What users of a log do, as :func:`fit_user_model` finds it.

    Attributes:
      networks: parameters of the members, leaves ``[members, ...]``.
      ends: ``f32[3]`` of :func:`recjax.envs.users.session_ends.leave_probability`.
      network: of every member.
      behaviours: what users do, the weakest first.
      has_impressions: whether histories hold what was shown and not taken.
      history_length: events of a history that are read.
    """

    networks: PyTree
    ends: Array
    network: UserNetwork = struct.field(pytree_node=False)
    behaviours: tuple[Behaviour, ...] = struct.field(pytree_node=False)
    has_impressions: bool = struct.field(pytree_node=False)
    history_length: int = struct.field(pytree_node=False)


class Parts(NamedTuple):
    """Rows of exposures: to learn from, to stop by and to report on, ``i64[...]`` each."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def fit_user_model(
    dataset: Dataset,
    config: UserModelConfig = UserModelConfig(),
    *,
    key: Array | None = None,
) -> tuple[UserModel, UserModelReport]:
    """Fits what users do with what they are shown, and when they leave, to a log.

    Args:
      dataset: the log.
      config: how it is read and fitted.
      key: PRNG key of parameters, shuffles, weights of users and what is presumed to have been passed over;
        ``jax.random.key(0)`` by default.

    Returns:
      The model, and the report on how it predicts what it was not fitted to.

    Raises:
      ValueError: the log has nothing of the kind that ``config`` asks for, or no part of it is left to hold out.
    """
    key = jax.random.key(0) if key is None else key
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    fit_key, baseline_key, session_key = jax.random.split(key, 3)
    exposures = read_exposures(dataset, config.reading, columns=config.columns, session_gap=config.session_gap)
    parts = hold_out(exposures, config.held_out, config.validation, rng)
    items = item_features(dataset, new_share=0.0)
    context = None if dataset.context is None else jnp.asarray(dataset.context, jnp.float32)
    predictor = Predictor(make_network(config, exposures, items), config.history_length, items, context)
    train, validation, test = (examples_of(exposures, rows, rng) for rows in parts)
    networks = fit_members(predictor, exposures, train, validation, config, fit_key)
    known_before = np.concatenate([parts.train, parts.validation])
    model = UserModel(
        networks=networks,
        ends=fit_session_ends(exposures, known_before),
        network=predictor.network,
        behaviours=exposures.behaviours,
        has_impressions=exposures.has_impressions,
        history_length=config.history_length,
    )
    biases = predictor._replace(network=_biases(exposures))
    of_biases = dataclasses.replace(config, members=1, weight_decay=UserModelConfig.weight_decay)
    baseline = fit_members(biases, exposures, train, validation, of_biases, baseline_key)
    report = measure(
        exposures,
        test,
        predictor.of_members(networks, exposures, test),
        biases.of_members(baseline, exposures, test).mean(0),
        predictor.elsewhere(networks, exposures, rng),
        compare_sessions(model, exposures, parts.test, items, context, session_key, rng),
    )
    return model, report


def hold_out(exposures: Exposures, held_out: float, validation: float, rng: np.random.Generator) -> Parts:
    """Everything that follows a random moment of each user, the newest share of what precedes, and what is left.

    The moment may come before any exposure with the same probability, the one by which ``held_out`` of all exposures
    are held out on average; for many users it does not come. So it says nothing of how long a log or a session goes on,
    which a share of each user's newest exposures would.

    Raises:
      ValueError: a part is empty.
    """
    counts = np.diff(exposures.starts)
    place = np.arange(len(exposures)) - exposures.starts[:-1][exposures.users]
    low, high = 0.0, 1.0
    for _ in range(40):
        chance = (low + high) / 2
        share = np.mean(1 - (1 - chance) ** (place + 1))
        low, high = (chance, high) if share < held_out else (low, chance)
    kept = np.minimum(rng.geometric(high, len(counts)) - 1, counts)[exposures.users]
    is_test = place >= kept
    is_validation = ~is_test & (place >= kept - np.floor(validation * kept))
    parts = Parts(*map(np.flatnonzero, (~is_test & ~is_validation, is_validation, is_test)))
    if not all(map(len, parts)):
        sizes = ", ".join(str(len(rows)) for rows in parts)
        raise ValueError(
            f"held_out={held_out:g} and validation={validation:g} leave {sizes} exposures to learn from, to stop by and"
            f" to report on; the median user has {np.median(counts):g}."
        )
    return parts


def make_network(config: UserModelConfig, exposures: Exposures, items: Items) -> UserNetwork:
    """The network of a configuration."""
    count = len(exposures.behaviours)
    if config.network == FACTORS:
        return FactorNetwork(count, exposures.num_users, exposures.num_items, config.width)
    item = ItemTower(items.num_items, config.width)
    return HistoryNetwork(count, item=item, user=UserTower(config.width, config.network))


def _biases(exposures: Exposures) -> UserNetwork:
    return FactorNetwork(len(exposures.behaviours), exposures.num_users, exposures.num_items, factors=0)
