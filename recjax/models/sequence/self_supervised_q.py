"""Q-learning from logs beside the prediction of the next item: SQN, and with sampled negatives SNQN."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from recjax.catalogue import ItemIndex, argmax, score_at
from recjax.losses import TD_LOSSES, masked_mean, td_error
from recjax.models.sequence.auxiliary import Auxiliary
from recjax.models.sequence.next_item import each_event, is_item
from recjax.nn import QRecommendation
from recjax.types import Array, Behaviour, Items, Observation, PyTree

RewardOfEvents = Callable[[Observation, Array], Array]
"""``(window [B, L], key) -> f32[B, L]``, the reward of each event; the key is for rewards that are drawn."""


def behaviour_rewards(rewards: Mapping[Behaviour, float]) -> RewardOfEvents:
    """What events earn by what the user did; behaviours that are not named earn nothing.

    >>> window = Observation(jnp.array([[4, 7]]), jnp.array([[Behaviour.VIEW, Behaviour.PURCHASE]]))
    >>> behaviour_rewards({Behaviour.VIEW: 0.5, Behaviour.PURCHASE: 1.0})(window, None).tolist()
    [[0.5, 1.0]]
    """
    table = (
        jnp.zeros(len(Behaviour) + 1).at[jnp.array([int(kind) for kind in rewards])].set(jnp.array([*rewards.values()]))
    )
    # Padding is -1, which is the last.
    return lambda window, key: table[window.behaviour]


def self_supervised_q(
    module: QRecommendation,
    reward: RewardOfEvents,
    *,
    discount: float = 0.5,
    negatives: int = 0,
    weight: float = 1.0,
) -> Auxiliary:
    """The Q-loss of SQN, for ``fit_sequences(..., auxiliary=(loss,))``; with ``negatives`` that of SNQN.

    A state is the vector of a user after each event, an action the item of the next event, whose reward it has; the
    last event of a window ends the session. With heads ``Q`` and ``Q'``, which change places at random from batch to
    batch, and ``a' = argmax Q(s', ·)`` over the whole catalogue, the loss of an event is

    ``(r + γ Q'(s', a') - Q(s, a))² / 2``,

    and with negatives that of every drawn item ``n``, which earns nothing and leaves the user where she is, is added:
    ``(γ Q'(s, argmax Q(s, ·)) - Q(s, n))² / 2``. Gradients go through ``Q(s, ·)`` into the encoder. Items are ranked by
    the softmax as before.

    The sources keep two whole networks, of which each is the other's target; here both heads share one encoder, which
    runs once more for this loss. Negatives are drawn uniformly from the catalogue; one that is the item itself does
    not count.

    Args:
      module: what is trained.
      reward: of events; sources give .2 for a click and 1 for a purchase.
      discount: γ in [0, 1].
      negatives: items drawn for each event; 0 for SQN, and 10 in the source of SNQN.
      weight: beside the loss of the next item.

    Raises:
      ValueError: the module has no heads of values, or a number is outside its range.

    References:
      Xin et al., "Self-Supervised Reinforcement Learning for Recommender Systems", SIGIR 2020 (SQN); Xin et al.,
      "Supervised Advantage Actor-Critic for Recommender Systems", WSDM 2022 (SNQN).
    """
    if not isinstance(module, QRecommendation):
        raise ValueError(f"{type(module).__name__} has no heads of values; use nn.QRecommendation.")
    if not 0 <= discount <= 1:
        raise ValueError(f"discount is {discount}; it must be in [0, 1].")
    if negatives < 0 or not weight >= 0:
        raise ValueError(f"negatives is {negatives} and weight is {weight}; they must be at least 0.")

    def loss(params: PyTree, window: Observation, items: Items, key: Array) -> Array:
        coin_key, reward_key, negatives_key, dropout_key = jax.random.split(key, 4)
        seen, actions = each_event(lambda events: events[:, :-1], window), window.history[:, 1:]
        is_learned = is_item(actions, module.num_items)
        states: Any = module.apply(
            params, seen, items, every_position=True, method="states", rngs={"dropout": dropout_key}
        )
        learner, other = _by_turns(coin_key, params["params"]["q_vectors"])
        v = _double_value(states, learner, other)
        q_tm1 = _at(states, learner, jnp.where(is_learned, actions, 0)[..., None])[..., 0]
        # The next state is that of the next position; behind the last the session is over.
        v_t = jnp.pad(v[:, 1:], ((0, 0), (0, 1)))
        gamma = jnp.full_like(v, discount)
        each = TD_LOSSES["mse"](td_error(q_tm1, reward(window, reward_key)[:, 1:], gamma, v_t))
        if negatives:
            drawn = jax.random.randint(negatives_key, (*actions.shape, negatives), 0, module.num_items)
            q_n = _at(states, learner, drawn)
            target = jnp.broadcast_to((gamma * v)[..., None], q_n.shape)
            of_drawn = TD_LOSSES["mse"](jax.lax.stop_gradient(target) - q_n)
            each += jnp.sum(jnp.where(drawn == actions[..., None], 0.0, of_drawn), axis=-1)
        return masked_mean(each, is_learned)

    return Auxiliary("q_loss", weight, loss)


def _by_turns(key: Array, heads: Array) -> tuple[Array, Array]:
    """Which of two heads ``[N, 2, D]`` learns, and the other one."""
    first = jax.random.bernoulli(key).astype(jnp.int32)
    return heads[:, first], heads[:, 1 - first]


def _double_value(states: Array, learner: Array, other: Array) -> Array:
    """What ``other`` says of the item that ``learner`` prefers in each state, ``f32[B, L]``, without a gradient."""
    flat, learner, other = jax.lax.stop_gradient((states.reshape(-1, states.shape[-1]), learner, other))
    best = argmax(flat, ItemIndex(learner))
    return score_at(flat, ItemIndex(other), best[:, None]).reshape(states.shape[:-1])


def _at(states: Array, head: Array, items: Array) -> Array:
    """Values ``f32[B, L, M]`` of items ``i32[B, L, M]``."""
    return jnp.einsum("bld,blmd->blm", states, head[items])
