"""Offline Q-learning: values that do not hope for what the log does not show."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from recjax.agents.base import Agent, register
from recjax.agents.offline.learner import Networks, OfflineAgent, OfflineHyper, Transitions
from recjax.agents.policy.distributions import Slates
from recjax.agents.slates import Selection
from recjax.agents.value.target import TargetNetwork
from recjax.agents.value.windows import check_discount
from recjax.catalogue import BlockScorer, argmax, as_scorer, block_size_of, max_score, score_at
from recjax.losses import TD_LOSSES, masked_mean, td_error
from recjax.nn import check_scores
from recjax.types import Array, Observation, PyTree

BELOW_ALL_VALUES = 1e5
"""By how much unlikely items rank below likely ones, whatever these are worth."""


@register("cql")
def cql(
    network: Any,
    optimizer: optax.GradientTransformation,
    *,
    discount: float = 0.95,
    conservatism: float = 1.0,
    target: TargetNetwork = TargetNetwork(),  # noqa: B008 (frozen)
    exclude_history: bool = True,
) -> Agent:
    """Conservative Q-learning: double Q-learning plus ``α (logsumexp_a q(s, a) - q(s, a_shown))``.

    What is added lowers the values of items that the log does not show where the shown ones do not stand out already;
    it is the cross-entropy of the shown item under the softmax of the values, an exact pass over the catalogue. Slates
    are learned slot by slot, as those of :func:`recjax.agents.dqn`, and are the top K of the values.

    Args:
      network: a :class:`recjax.nn.ScoringNetwork`, whose scores are values.
      optimizer: an optax transformation; clip gradients there.
      discount: default γ, in [0, 1].
      conservatism: default α, at least 0.
      target: how the target network follows.
      exclude_history: never show an item of the observed history, nor learn from one that was shown again.

    Returns:
      The agent. ``learn`` reports ``loss``, ``td_loss`` and ``gap`` (what is weighed by α).

    Raises:
      ValueError: an argument outside its range.

    References:
      Kumar et al., "Conservative Q-Learning for Offline Reinforcement Learning", NeurIPS 2020.
    """
    check_discount(discount)
    check_scores(network)
    if conservatism < 0:
        raise ValueError(f"conservatism is {conservatism}; it must be at least 0.")
    defaults = OfflineHyper(discount=float(discount), conservatism=float(conservatism))
    return OfflineAgent({"q": network}, optimizer, cql_loss, by_value, True, target, exclude_history).agent(defaults)


@register("bcq")
def bcq(
    network: Any,
    behaviour: Any,
    optimizer: optax.GradientTransformation,
    *,
    discount: float = 0.95,
    threshold: float = 0.3,
    target: TargetNetwork = TargetNetwork(),  # noqa: B008 (frozen)
    exclude_history: bool = True,
) -> Agent:
    """Batch-constrained Q-learning: the best item among those that the log would be likely to show.

    A second network learns the probability ``π_b`` with which the log shows each item. Items with
    ``π_b(a | s) < τ max π_b(· | s)`` are neither valued nor shown, but to fill a slate that the others do not, the
    likeliest first; among the others it is double Q-learning, slot by slot as :func:`recjax.agents.dqn`.

    Args:
      network: a :class:`recjax.nn.ScoringNetwork`, whose scores are values.
      behaviour: a :class:`recjax.nn.ScoringNetwork`, whose scores are the logits of what is shown.
      optimizer: an optax transformation of both; clip gradients there.
      discount: default γ, in [0, 1].
      threshold: default τ, in [0, 1]: 0 is Q-learning, 1 imitates.
      target: how the target network follows.
      exclude_history: never show an item of the observed history, nor learn from one that was shown again.

    Returns:
      The agent. ``learn`` reports ``loss``, ``td_loss`` and ``imitation_loss``.

    Raises:
      ValueError: an argument outside its range.

    References:
      Fujimoto et al., "Benchmarking Batch Deep Reinforcement Learning Algorithms", arXiv 1910.01708, 2019.
    """
    check_discount(discount)
    check_scores(network)
    check_scores(behaviour)
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold is {threshold}; it must be in [0, 1].")
    modules = {"q": network, "behaviour": behaviour}
    defaults = OfflineHyper(discount=float(discount), threshold=float(threshold))
    return OfflineAgent(modules, optimizer, bcq_loss, by_likely_value, True, target, exclude_history).agent(defaults)


def cql_loss(
    networks: Networks, held: Networks, log: Transitions, hparams: OfflineHyper
) -> tuple[Array, dict[str, Array]]:
    """See :func:`cql`."""
    td_loss = _td_loss(networks, held, log, networks.fixed().choices("q", log.o_t))
    gap = masked_mean(-networks.policy("q", log.o_tm1).of_items(log.a_tm1), log.is_learned)
    return td_loss + hparams.conservatism * gap, {"td_loss": td_loss, "gap": gap}


def bcq_loss(
    networks: Networks, held: Networks, log: Transitions, hparams: OfflineHyper
) -> tuple[Array, dict[str, Array]]:
    """See :func:`bcq`."""
    td_loss = _td_loss(networks, held, log, by_likely_value(networks.fixed(), log.o_t, hparams).choices)
    imitated = masked_mean(-networks.policy("behaviour", log.o_tm1).of_items(log.a_tm1), log.is_learned)
    return td_loss + imitated, {"td_loss": td_loss, "imitation_loss": imitated}


def by_value(networks: Networks, observation: Observation, hparams: OfflineHyper) -> Slates:
    """The best items."""
    return networks.policy("q", observation)


def by_likely_value(networks: Networks, observation: Observation, hparams: OfflineHyper) -> Slates:
    """The best items among those that are likely."""
    values, behaviour = (networks.choices(name, observation) for name in ("q", "behaviour"))
    return Slates(likely(values, behaviour, jnp.log(hparams.threshold)), networks.spec.slate_size)


def likely(values: Selection, behaviour: Selection, log_threshold: Array) -> Selection:
    """The values of items that are at least a share, told by its logarithm, as likely as the likeliest; then the rest.

    The rest, in the order of how likely they are, fill slates that the others do not.
    """
    valued, logits = as_scorer(values.items), as_scorer(behaviour.items)
    largest = max_score(behaviour.queries, behaviour.items, exclude=behaviour.exclude)
    # The likeliest passes, whatever rounding does to it.
    floor = jax.lax.stop_gradient(largest + jnp.minimum(log_threshold, -1e-5))

    def kept(queries: PyTree, value: Array, logit: Array) -> Array:
        floor = queries[2][:, None]
        return jnp.where(logit >= floor, value, logit - floor - BELOW_ALL_VALUES)

    def of_block(queries: PyTree, start: Array | int, size: int) -> Array:
        value = valued.score_block(queries[0], start, size)
        return kept(queries, value, logits.score_block(queries[1], start, size))

    def of_ids(queries: PyTree, ids: Array) -> Array:
        return kept(queries, valued.score_ids(queries[0], ids), logits.score_ids(queries[1], ids))

    size = min(block_size_of(each.items, each.queries) for each in (values, behaviour))
    scorer = BlockScorer(of_block, valued.num_items, of_ids, block_size=size)
    return Selection((values.queries, behaviour.queries, floor), scorer, values.exclude)


def _td_loss(networks: Networks, held: Networks, log: Transitions, choices: Selection) -> Array:
    """The loss of the shown slots, where the best of the choices comes next, valued by the target network."""
    best = argmax(choices.queries, choices.items, exclude=choices.exclude)
    values = held.choices("q", log.o_t)
    v_t = score_at(values.queries, values.items, jnp.maximum(best, 0)[:, None])
    q_tm1 = networks.at("q", log.o_tm1, log.a_tm1)
    error = td_error(q_tm1, log.r_t, log.discount_t, jnp.broadcast_to(v_t, log.r_t.shape))
    return masked_mean(TD_LOSSES["huber"](error), log.is_learned)
