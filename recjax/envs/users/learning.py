"""Trains networks of what users do, several side by side, and asks them."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from recjax.data import Sequences, windows
from recjax.envs.users.exposures import Exposures
from recjax.envs.users.joint import chances, each, log_likelihoods
from recjax.envs.users.networks import UserNetwork
from recjax.fit import EarlyStopping, Hooks, TrainingPlan, adamw, fit_epochs
from recjax.types import Array, Items, Observation, PyTree

AT_ONCE = 2048
"""Examples that are predicted at once."""

ELSEWHERE = 4096
"""Pairs of users and items, drawn uniformly, on which members are compared."""


class Examples(NamedTuple):
    """What there is to predict, in NumPy's arrays or JAX's.

    Attributes:
      position: ``i32[M]`` exposures before which a history ends.
      user: ``i32[M]``.
      item: ``i32[M]``.
      answers: ``f32[M, S]`` zeros and ones.
      weight: ``f32[M, S]`` how much each counts.
    """

    position: Any
    user: Any
    item: Any
    answers: Any
    weight: Any


def examples_of(
    exposures: Exposures, rows: np.ndarray, rng: np.random.Generator, *, balanced: bool = False
) -> Examples:
    """Exposures ``rows`` to predict; where feedback is implicit, with items that are presumed to have been passed over.

    Those have as much weight together as what was taken.

    Args:
      exposures: the log.
      rows: ``i64[...]`` of it.
      rng: of what was passed over.
      balanced: whether what was not done weighs as much in all, behaviour by behaviour, as what was.
    """
    answers = exposures.answers[rows].astype(np.float32)
    found = Examples(
        rows.astype(np.int32), exposures.users[rows], exposures.items[rows], answers, np.ones_like(answers)
    )
    if not exposures.has_impressions:
        drawn = exposures.passed_over(rows, rng)
        of, which = np.nonzero(drawn >= 0)
        others = Examples(
            found.position[of], found.user[of], drawn[of, which], np.zeros_like(answers[of]),
            np.full_like(answers[of], 1 / exposures.negatives),
        )  # fmt: skip
        found = Examples(*(np.concatenate(columns) for columns in zip(found, others, strict=True)))
    if balanced:
        done = (found.weight * found.answers).sum(0)
        not_done = (found.weight * (1 - found.answers)).sum(0)
        ratio = np.where(not_done > 0, done / np.maximum(not_done, 1e-9), 1.0).astype(np.float32)
        found = found._replace(weight=found.weight * np.where(found.answers > 0, np.float32(1), ratio))
    return found


class Predictor(NamedTuple):
    """A network with all but its parameters.

    Attributes:
      network: of every member.
      history_length: events that it reads.
      items: the features of all items.
      context: ``f32[U, C]`` what else is known of users, or None.
    """

    network: UserNetwork
    history_length: int
    items: Items
    context: Array | None

    def observe(self, sequences: Sequences, position: Array, user: Array) -> Observation:
        """What was known of users ``i32[B]`` before events ``i32[B]``."""
        history, behaviour = windows(sequences, position, self.history_length)
        return Observation(history, behaviour, None if self.context is None else self.context[user])

    def init(self, key: Array, members: int) -> PyTree:
        """Parameters of members at their start."""
        pad = jnp.full((1, self.history_length), -1, jnp.int32)
        context = None if self.context is None else self.context[:1]
        first = jnp.zeros(1, jnp.int32)

        def one(key: Array) -> PyTree:
            return self.network.init(key, first, Observation(pad, pad, context), first[:, None], self.items)

        return jax.jit(jax.vmap(one))(jax.random.split(key, members))

    def of_members(self, networks: PyTree, exposures: Exposures, examples: Examples) -> np.ndarray:
        """``f32[members, M, 2^S]``: probabilities of all combinations of behaviours."""
        count = len(examples.position)
        shape = math.ceil(count / AT_ONCE), AT_ONCE
        blocks = (np.resize(column, math.prod(shape)).reshape(shape) for column in examples[:3])
        given = self.items, self.context
        found = [
            _of_block(
                self.network, self.history_length, networks, exposures.sequences, *given, *map(jnp.asarray, block)
            )
            for block in zip(*blocks, strict=True)
        ]
        return np.concatenate([np.asarray(x) for x in found], axis=1)[:, :count]

    def elsewhere(self, networks: PyTree, exposures: Exposures, rng: np.random.Generator) -> np.ndarray:
        """The same of users and items drawn uniformly, at random moments of the log: what a policy may well show."""
        rows = rng.integers(0, len(exposures), ELSEWHERE)
        item = rng.integers(0, exposures.num_items, ELSEWHERE).astype(np.int32)
        blank = np.zeros((0, 0), np.float32)
        return self.of_members(
            networks, exposures, Examples(rows.astype(np.int32), exposures.users[rows], item, blank, blank)
        )


@partial(jax.jit, static_argnums=(0, 1))
def _of_block(
    network: UserNetwork,
    length: int,
    networks: PyTree,
    sequences: Sequences,
    items: Items,
    context: Array | None,
    position: Array,
    user: Array,
    item: Array,
) -> Array:
    observation = Predictor(network, length, items, context).observe(sequences, position, user)
    apply: Any = jax.vmap(network.apply, in_axes=(0, None, None, None, None))
    logits, strengths = apply(networks, user, observation, item[:, None], items)
    return jax.vmap(chances)(logits[:, :, 0], strengths)


def weighed_log_likelihood(found: np.ndarray, examples: Examples) -> float:
    """Mean log-likelihood of the behaviours of ``M`` examples, each by itself, from ``f32[M, 2^S]`` probabilities."""
    done = np.clip(np.asarray(each(jnp.asarray(found))), 1e-7, 1 - 1e-7)
    likelihood = np.log(np.where(examples.answers > 0, done, 1 - done))
    return float((examples.weight * likelihood).sum() / examples.weight.sum())


def fit_members(
    predictor: Predictor, exposures: Exposures, train: Examples, validation: Examples, config: Any, key: Array
) -> PyTree:
    """Parameters of the members, leaves ``[members, ...]``, of the epoch that predicted the validation part best.

    Args:
      predictor: the network, and what it reads.
      exposures: the log.
      train: what is learned from; every member weighs users by exponential random numbers of its own, where there
        are several.
      validation: training stops when this is not predicted better any more.
      config: how to train: :class:`recjax.envs.UserModelConfig`, or what else has these fields.
      key: of parameters, weights, shuffles and dropout.
    """
    init_key, weight_key, fit_key = jax.random.split(key, 3)
    trust = jnp.ones((exposures.num_users, 1))
    if config.members > 1:
        trust = jax.random.exponential(weight_key, (exposures.num_users, config.members))

    def gather(data: PyTree, rows: Array) -> PyTree:
        sequences, examples, trust, items = data
        one = Examples(*(column[rows] for column in examples))
        return predictor.observe(sequences, one.position, one.user), one, trust[one.user], items

    def loss_fn(params: PyTree, batch: PyTree, key: Array) -> tuple[Array, dict[str, Array]]:
        observation, one, trust, items = batch

        def of_member(params: PyTree, trust: Array, key: Array) -> Array:
            network: Any = predictor.network
            logits, strengths = network.apply(
                params, one.user, observation, one.item[:, None], items, rngs={"dropout": key}
            )
            found = log_likelihoods(logits[:, 0], strengths, one.answers)
            return -jnp.mean(trust * jnp.sum(one.weight * found, axis=-1))

        losses = jax.vmap(of_member, in_axes=(0, 1, 0))(params, trust, jax.random.split(key, config.members))
        return jnp.mean(losses), {}

    def score(epoch: int, params: PyTree) -> dict[str, float]:
        found = predictor.of_members(params, exposures, validation)
        return {"validation": weighed_log_likelihood(found.mean(0), validation)}

    data = jax.tree.map(jnp.asarray, (exposures.sequences, train, trust, predictor.items))
    count = len(train.position)
    plan = TrainingPlan(config.epochs, min(config.batch_size, count), count, gather, name="users")
    hooks = Hooks(callback=score, early_stopping=EarlyStopping("validation", config.patience))
    optimizer = adamw(config.learning_rate, weight_decay=config.weight_decay)
    return fit_epochs(
        loss_fn, optimizer, predictor.init(init_key, config.members), data, plan, key=fit_key, hooks=hooks
    ).params
