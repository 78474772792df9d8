"""Slates from scores: greedy, ε-greedy, Boltzmann and uniform, each with its exact probability.

An exploration draws slates that never repeat an item, and says how likely each slate is
(:class:`Exploration`). It takes ``(queries, items)`` as the operations of
:mod:`recjax.catalogue` do, and writes no array of every item for every user.

Three kinds of probabilities are exact for every exploration: of the whole slate in its order (``log_prob``), of each
slot given those above it (``slot_log_probs``, whose sum is the former), and, of what was drawn,
``extras["propensity"]``: the marginal of each slot for ε-greedy and greedy slates; for Boltzmann, where the marginal
of a later slot is a sum over all that may stand above it, the one given those above.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from flax import struct
from jax.scipy.special import xlog1py, xlogy

from recjax.agents.base import Action
from recjax.agents.uniform import fill_uniformly, num_allowed
from recjax.catalogue import (
    BlockScorer,
    Catalogue,
    as_scorer,
    block_size_of,
    logsumexp,
    sample,
    score_at,
    top_k,
)
from recjax.fit import linear_decay
from recjax.registry import Registry
from recjax.types import PAD_ID, Array, PyTree


@struct.dataclass
class ExplorationHyper:
    """How much to explore; scalars that may be traced, and mapped over seeds.

    Attributes:
      epsilon_start: probability that a slot explores at the first step.
      epsilon_end: the same after ``epsilon_steps`` steps of the environment; linear in between.
      epsilon_steps: steps over which ε falls.
      temperature: of Boltzmann exploration, in units of the scores.
    """

    epsilon_start: Array | float = 0.3
    epsilon_end: Array | float = 0.05
    epsilon_steps: Array | int = 1000
    temperature: Array | float = 0.1

    def epsilon(self, step: Array) -> Array:
        """ε after ``step`` steps of the environment."""
        return linear_decay(self.epsilon_start, self.epsilon_end, self.epsilon_steps)(step)


class Draw(Protocol):
    """Draws slates."""

    def __call__(
        self,
        key: Array,
        queries: PyTree,
        items: Catalogue,
        slate_size: int,
        *,
        hparams: ExplorationHyper,
        step: Array,
        exclude: Array | None = None,
        best: Array | None = None,
    ) -> Action:
        """Returns slates ``i32[B, K]`` without repeats, with ``extras["propensity"]: f32[B, K]``.

        Args:
          key: a key of ``jax.random``.
          queries: leading ``[B]``.
          items: the catalogue.
          slate_size: ``K``.
          hparams: how much to explore.
          step: ``i32[]`` steps of the environment done.
          exclude: ``i32[B, E]`` items not to show; ``PAD_ID`` is ignored. At least ``K`` items
            must be left.
          best: ``i32[B, K]``, the greedy slate where it is known already.
        """
        ...


class SlateLogProb(Protocol):
    """The log-probability of slates, which are taken to be possible (:func:`is_possible`)."""

    def __call__(
        self,
        queries: PyTree,
        items: Catalogue,
        slate: Array,
        *,
        hparams: ExplorationHyper,
        step: Array,
        exclude: Array | None = None,
        best: Array | None = None,
    ) -> Array:
        """Returns ``f32[B]``; the arguments are those of :class:`Draw`."""
        ...


class SlotLogProbs(Protocol):
    """The log-probability of each slot given those above it, of slates that are possible (:func:`is_possible`)."""

    def __call__(
        self,
        queries: PyTree,
        items: Catalogue,
        slate: Array,
        *,
        hparams: ExplorationHyper,
        step: Array,
        exclude: Array | None = None,
    ) -> Array:
        """Returns ``f32[B, K]``, whose sum is :class:`SlateLogProb`; the arguments are those of :class:`Draw`."""
        ...


class Exploration(NamedTuple):
    """A way to explore.

    Attributes:
      draw: see :class:`Draw`.
      log_prob: see :class:`SlateLogProb`.
      slot_log_probs: see :class:`SlotLogProbs`.
    """

    draw: Draw
    log_prob: SlateLogProb
    slot_log_probs: SlotLogProbs


explorations: Registry[Exploration] = Registry("exploration")


def greedy(queries: PyTree, items: Catalogue, slate_size: int, *, exclude: Array | None = None) -> Action:
    """The best items, best first; probability 1, because the policy is deterministic."""
    return certain(top_k(queries, items, slate_size, exclude=exclude)[1])


def certain(slate: Array) -> Action:
    """A slate that is shown without chance."""
    return Action(slate, jnp.zeros(len(slate)), {"propensity": jnp.ones(slate.shape, jnp.float32)})


def epsilon_greedy(
    key: Array,
    queries: PyTree,
    items: Catalogue,
    slate_size: int,
    *,
    hparams: ExplorationHyper,
    step: Array,
    exclude: Array | None = None,
    best: Array | None = None,
) -> Action:
    """The greedy slate with slots redrawn at random, without repeats.

    Every slot explores with probability ε, independently. Slots that do not explore keep
    their greedy item; those that do draw without replacement, uniformly from the allowed
    items that no slot keeps. With one slot this is the ε-greedy policy of the textbooks,
    and with ε = 1 a uniform slate.

    The propensity is the exact marginal probability, over all of this randomness, that
    the slot shows the item that it shows, whatever the other slots show.

    The arguments are those of :class:`Draw`.
    """
    epsilon = hparams.epsilon(step)
    num_items = as_scorer(items).num_items
    explore_key, draw_key = jax.random.split(key)
    best = top_k(queries, items, slate_size, exclude=exclude)[1] if best is None else best
    explores = jax.random.bernoulli(explore_key, epsilon, best.shape)
    slate = fill_uniformly(draw_key, jnp.where(explores, PAD_ID, best), num_items, exclude)

    # How many of the other slots explore is binomial; every one widens the pool by its greedy item.
    allowed = num_allowed(num_items, best.shape[0], exclude)
    pool_drawn = _mean_inverse(allowed - (slate_size - 1), slate_size - 1, epsilon)
    # The greedy item of another slot can be drawn only when that slot explores as well.
    pool_freed = epsilon * _mean_inverse(allowed - (slate_size - 2), slate_size - 2, epsilon)
    is_own = slate == best
    is_other = (slate[:, :, None] == best[:, None, :]).any(-1) & ~is_own
    drawn = epsilon * jnp.where(is_other, pool_freed[:, None], pool_drawn[:, None])
    propensity = jnp.where(is_own, 1 - epsilon, 0.0) + drawn
    return Action(slate, _epsilon_log_prob(slate, best, allowed, epsilon, slate_size), {"propensity": propensity})


def epsilon_greedy_log_prob(
    queries: PyTree,
    items: Catalogue,
    slate: Array,
    *,
    hparams: ExplorationHyper,
    step: Array,
    exclude: Array | None = None,
    best: Array | None = None,
) -> Array:
    """The log-probability with which :func:`epsilon_greedy` shows a slate, ``f32[B]``."""
    best = top_k(queries, items, slate.shape[-1], exclude=exclude)[1] if best is None else best
    allowed = num_allowed(as_scorer(items).num_items, len(slate), exclude)
    return _epsilon_log_prob(slate, best, allowed, hparams.epsilon(step), slate.shape[-1])


def epsilon_greedy_slot_log_probs(
    queries: PyTree,
    items: Catalogue,
    slate: Array,
    *,
    hparams: ExplorationHyper,
    step: Array,
    exclude: Array | None = None,
) -> Array:
    """The log-probability with which :func:`epsilon_greedy` shows each item given those above it, ``f32[B, K]``."""
    _, best = top_k(queries, items, slate.shape[-1], exclude=exclude)
    allowed = num_allowed(as_scorer(items).num_items, len(slate), exclude)
    epsilon = hparams.epsilon(step)
    above = [_epsilon_log_prob(slate, best, allowed, epsilon, shown) for shown in range(slate.shape[-1] + 1)]
    pairs = itertools.pairwise(above)
    # What stands below an impossible slot is as impossible.
    return jnp.stack([jnp.where(after == -jnp.inf, -jnp.inf, after - before) for before, after in pairs], axis=1)


def _epsilon_log_prob(slate: Array, best: Array, allowed: Array, epsilon: Array, shown: int) -> Array:
    """The log-probability that the first ``k = shown`` slots of the ``K`` show what they do, ``f32[B]``.

    Summed over which slots explored. Of the first ``k``, the ``m`` that do not show their greedy item did; of the
    others any number may have. Of those below, the ``f`` did whose greedy item is shown above; again of the others any
    number may have. With ``e`` of the first ``k`` and ``g`` of those below, the ``e`` items were drawn one by one from
    the ``A - K + e + g`` that no other slot shows:

    ``P = Σ_e Σ_g C(k - m, e - m) C(K - k - f, g - f) ε^(e+g) (1 - ε)^(K-e-g) / ((A - K + g + 1) ... (A - K + g + e))``.
    """
    slots = slate.shape[-1]
    moved = jnp.sum(slate[:, :shown] != best[:, :shown], axis=-1)
    freed = jnp.sum(jnp.any(best[:, shown:, None] == slate[:, None, :shown], axis=-1), axis=-1)
    above, below = jnp.arange(shown + 1)[:, None], jnp.arange(slots - shown + 1)[None]
    ways = _ways(shown)[moved][:, :, None] * _ways(slots - shown)[freed][:, None, :]
    pool = (allowed - slots)[:, None] + jnp.arange(1, slots + 1)[None]
    draws = jnp.pad(jnp.cumsum(jnp.log(pool.astype(jnp.float32)), axis=-1), ((0, 0), (1, 0)))
    chance = xlogy(above + below, epsilon) + xlog1py(slots - above - below, -epsilon)
    terms = chance[None] - (draws[:, above + below] - draws[:, below])
    return jax.nn.logsumexp(terms, axis=(-1, -2), b=ways.astype(jnp.float32))


def _ways(slots: int) -> Array:
    """``C(slots - m, e - m)`` ways for ``e`` slots to explore when ``m`` certainly did, ``i32[m, e]``."""
    range_ = range(slots + 1)
    return jnp.asarray([[math.comb(slots - m, e - m) if e >= m else 0 for e in range_] for m in range_])


def boltzmann(
    key: Array,
    queries: PyTree,
    items: Catalogue,
    slate_size: int,
    *,
    hparams: ExplorationHyper,
    step: Array,
    exclude: Array | None = None,
    best: Array | None = None,
) -> Action:
    """A slate drawn without replacement from ``softmax(scores / temperature)``.

    The first slot is Boltzmann exploration over all items, each further one the same over the items that are left: the
    Plackett-Luce model, drawn by the Gumbel-top-k trick, under which name it is registered as well. The propensity
    of an item is its probability given the slots above it; their product is the probability of the slate.

    The arguments are those of :class:`Draw`; ``step`` and ``best`` are not used.
    """
    del step, best
    slate = sample(key, queries, items, slate_size, temperature=hparams.temperature, exclude=exclude)
    slots = plackett_luce(queries, items, slate, temperature=hparams.temperature, exclude=exclude)
    return Action(slate, jnp.sum(slots, axis=-1), {"propensity": jnp.exp(slots)})


def boltzmann_log_prob(
    queries: PyTree,
    items: Catalogue,
    slate: Array,
    *,
    hparams: ExplorationHyper,
    step: Array,
    exclude: Array | None = None,
    best: Array | None = None,
) -> Array:
    """The log-probability with which :func:`boltzmann` shows a slate, ``f32[B]``."""
    del best
    options: dict[str, Any] = {"hparams": hparams, "step": step, "exclude": exclude}
    return jnp.sum(boltzmann_slot_log_probs(queries, items, slate, **options), axis=-1)


def boltzmann_slot_log_probs(
    queries: PyTree,
    items: Catalogue,
    slate: Array,
    *,
    hparams: ExplorationHyper,
    step: Array,
    exclude: Array | None = None,
) -> Array:
    """The log-probability with which :func:`boltzmann` shows each item given those above it, ``f32[B, K]``."""
    del step
    return plackett_luce(queries, items, slate, temperature=hparams.temperature, exclude=exclude)


def plackett_luce(
    queries: PyTree,
    items: Catalogue,
    slate: Array,
    *,
    temperature: Array | float = 1.0,
    exclude: Array | None = None,
) -> Array:
    """The log-probability of each slot given those above it, in one pass over the catalogue.

    ``log p_k = s_k - log(R + exp(s_k) + ... + exp(s_K))`` with ``s`` the scores over the temperature and ``R`` the
    sum of the exponentials of all items that are neither excluded nor in the slate, so that nothing is
    subtracted and no digit is lost. It may be differentiated.

    Args:
      queries: leading ``[B]``.
      items: the catalogue.
      slate: ``i32[B, K]`` distinct items that are not excluded.
      temperature: above 0.
      exclude: ``i32[B, E]`` items that are never shown; ``PAD_ID`` is ignored.

    Returns:
      ``f32[B, K]``, whose sum is the log-probability of the slate.

    References:
      Plackett, "The Analysis of Permutations", Applied Statistics 24, 1975.
    """
    unshown = slate if exclude is None else jnp.concatenate([exclude, slate], axis=-1)
    rest = logsumexp(queries, tempered(queries, items, temperature), exclude=unshown)
    shown = score_at(queries, items, slate) / temperature
    below = jax.lax.associative_scan(jnp.logaddexp, shown, axis=1, reverse=True)
    return shown - jnp.logaddexp(rest[:, None], below)


def tempered(queries: PyTree, items: Catalogue, temperature: Array | float) -> Catalogue:
    """The same catalogue with every score divided by a temperature, for passes over all items."""
    if isinstance(temperature, float) and temperature == 1.0:
        return items
    scorer = as_scorer(items)

    def score_block(queries: PyTree, start: Array | int, size: int) -> Array:
        return scorer.score_block(queries, start, size) / temperature

    return BlockScorer(score_block, scorer.num_items, block_size=block_size_of(items, queries))


_BOLTZMANN = Exploration(boltzmann, boltzmann_log_prob, boltzmann_slot_log_probs)
explorations.register(
    "epsilon_greedy", Exploration(epsilon_greedy, epsilon_greedy_log_prob, epsilon_greedy_slot_log_probs)
)
explorations.register("boltzmann", _BOLTZMANN)
explorations.register("gumbel_top_k", _BOLTZMANN)


def is_possible(slate: Array, num_items: int, exclude: Array | None) -> Array:
    """Whether slates ``i32[B, K]`` hold distinct items of the catalogue, none of them excluded, ``bool[B]``."""
    known = (slate >= 0) & (slate < num_items)
    repeats = jnp.sum(slate[:, :, None] == slate[:, None, :], axis=(-1, -2)) > slate.shape[-1]
    possible = jnp.all(known, axis=-1) & ~repeats
    if exclude is None:
        return possible
    return possible & ~jnp.any(slate[:, :, None] == exclude[:, None, :], axis=(-1, -2))


def _mean_inverse(pool: Array, others: int, epsilon: Array) -> Array:
    """``E[1 / (pool + b)]`` for ``b ~ Binomial(others, ε)``, of the shape of ``pool``; 0 without such slots."""
    if others < 0:
        return jnp.zeros(pool.shape, jnp.float32)
    explore = jnp.arange(others + 1, dtype=jnp.float32)
    ways = jnp.asarray([math.comb(others, b) for b in range(others + 1)], jnp.float32)
    weights = ways * epsilon**explore * (1 - epsilon) ** (others - explore)
    return jnp.sum(weights[None] / (pool[:, None] + explore[None]), axis=1)
