"""Negatives: items drawn from the catalogue to stand for all those that are not the positive one.

Samplers are functions of a key whose time and memory do not grow with the catalogue. Draws
are with replacement and may give an example's own positive: remove such hits with
:func:`accidental_hits` before a loss sees the scores.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax

from recjax.types import PAD_ID, Array

_FULL = 1 << 32
"""Probability of one column of an alias table, in units of the last bit of a toss."""


@struct.dataclass
class Negatives:
    """Items that were drawn, and how likely each was.

    Attributes:
      ids: ``i32[M]`` shared by all examples of a batch, or ``i32[B, M]`` of each example;
        ``PAD_ID`` where there is none.
      logq: ``f32`` of the same shape, the natural logarithm of the probability with which
        one draw gives that id, so that ``M exp(logq)`` is how often the id is expected.
    """

    ids: Array
    logq: Array


@struct.dataclass
class PopularityDistribution:
    """A distribution over items as an alias table, from :func:`popularity_distribution`.

    A draw picks one of ``K`` equally likely columns, ``K`` the power of two from ``N`` up,
    and then the item of the column or its alias. ``K`` and the thresholds are whole numbers
    of random bits, so ``logq`` is what is drawn from, exactly.

    Attributes:
      threshold: ``u32[K]``, the column's own item is taken in so many of ``2**32`` tosses.
      alias: ``i32[K]``, the item that is taken otherwise.
      logq: ``f32[N]`` log-probability of each item, ``-inf`` for one that is never drawn.
    """

    threshold: Array
    alias: Array
    logq: Array

    @property
    def num_items(self) -> int:
        """``N``."""
        return self.logq.shape[-1]


def popularity_distribution(
    counts: Array | np.ndarray, *, exponent: float = 1.0, smoothing: float = 1.0
) -> PopularityDistribution:
    """``q(i)`` proportional to ``(counts[i] + smoothing) ** exponent``, built once, on the host.

    Probabilities are rounded to multiples of at most ``2**-32 / N``, those above 0 never to 0.

    Args:
      counts: ``f32[N]``, how often each item occurs in the log; not traced.
      exponent: 1 draws as the log does, 0 uniformly, 0.75 is that of word2vec.
      smoothing: added to every count. Above 0, every item can be drawn, without which the
        items that never are draws have no part in a loss and their scores are not held
        down. With 0, an item that the log does not have is never drawn, which is the law of
        the positives of a batch (:func:`in_batch`).

    Raises:
      ValueError: ``counts`` is not a vector of at least one finite number from 0 up, all
        counts are 0 without smoothing, or an option is negative or not finite.

    References:
      Vose, "A linear algorithm for generating random numbers with a given distribution",
      IEEE Transactions on Software Engineering, 1991.

      Mikolov et al., "Distributed Representations of Words and Phrases and their
      Compositionality", NIPS 2013.

    >>> popularity_distribution(np.array([1, 0, 3]), smoothing=0.0).logq.tolist()
    [-1.386..., -inf, -0.287...]
    """
    weights = np.asarray(counts, np.float64)
    if weights.ndim != 1 or not weights.size:
        raise ValueError(f"counts must have shape [N] with N >= 1; got {weights.shape}.")
    for name, value in (("exponent", exponent), ("smoothing", smoothing)):
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} is {value}; it must be a finite number from 0 up.")
    wrong = np.flatnonzero(~((weights >= 0) & (weights < np.inf)))
    if wrong.size:
        raise ValueError(f"counts[{wrong[0]}] is {weights[wrong[0]]}; counts must be finite numbers from 0 up.")
    weights = weights + smoothing
    if not weights.any():
        raise ValueError("All counts are 0, so no item can be drawn; give counts above 0 or smoothing above 0.")

    drawn = weights > 0
    # Largest first scaled to 1, so that no power overflows.
    weights = np.where(drawn, (weights / weights.max()) ** exponent, 0.0)
    columns = 1 << max(1, (weights.size - 1).bit_length())
    units = np.zeros(columns, np.int64)
    units[: weights.size] = np.maximum(np.rint(weights * (columns * _FULL / weights.sum())), drawn)
    units[units.argmax()] += columns * _FULL - units.sum()
    threshold, alias = _alias_table(units)
    with np.errstate(divide="ignore"):
        logq = np.log(units[: weights.size] / (columns * _FULL))
    return PopularityDistribution(jnp.asarray(threshold), jnp.asarray(alias), jnp.asarray(logq, jnp.float32))


def _alias_table(units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Splits ``i64[K]`` units, ``K * 2**32`` in all, over ``K`` columns of two items each.

    Light columns are filled by heavy ones in turn. A heavy column gives until less than a
    full column is left, and what it then lacks comes from the next heavy one: so sums of
    what is lacking and of what is spare say who fills whom, without a loop.
    """
    light, heavy = np.flatnonzero(units < _FULL), np.flatnonzero(units > _FULL)
    lacking, spare = np.cumsum(_FULL - units[light]), np.cumsum(units[heavy] - _FULL)
    alias, own = np.arange(units.size), np.minimum(units, _FULL)
    alias[light] = heavy[np.searchsorted(spare, lacking - (_FULL - units[light]), side="right")]
    alias[heavy[:-1]] = heavy[1:]
    own[heavy] = _FULL - (lacking[np.searchsorted(lacking, spare)] - spare)
    # A full column needs 2**32 tosses, one too many for 32 bits: its alias is itself.
    alias = np.where(own == _FULL, np.arange(units.size), alias)
    return np.minimum(own, _FULL - 1).astype(np.uint32), alias.astype(np.int32)


def uniform(key: Array, shape: tuple[int, ...], num_items: int) -> Negatives:
    """Items drawn uniformly from ``0 .. num_items - 1``.

    Args:
      key: a key of ``jax.random``.
      shape: ``(M,)`` for negatives that a batch shares, ``(B, M)`` for each example's own.
      num_items: ``N``. The generator favours some items by at most ``N / 2**32`` of their
        probability, which ``logq = -log(N)`` leaves out.

    Raises:
      ValueError: ``num_items`` or an entry of ``shape`` is below 1, or ``shape`` is neither
        ``(M,)`` nor ``(B, M)``.
    """
    if num_items < 1:
        raise ValueError(f"num_items is {num_items}; it must be at least 1.")
    ids = jax.random.randint(key, _checked(shape), 0, num_items, jnp.int32)
    return Negatives(ids, jnp.full(ids.shape, -math.log(num_items), jnp.float32))


def popularity(key: Array, shape: tuple[int, ...], distribution: PopularityDistribution) -> Negatives:
    """Items drawn by popularity, three look-ups a draw.

    Args:
      key: a key of ``jax.random``.
      shape: ``(M,)`` for negatives that a batch shares, ``(B, M)`` for each example's own.
      distribution: from :func:`popularity_distribution`.

    Raises:
      ValueError: ``shape`` is neither ``(M,)`` nor ``(B, M)``, or an entry is below 1.
    """
    column, toss = jax.random.bits(key, (2, *_checked(shape)), jnp.uint32)
    unused_bits = 33 - distribution.alias.shape[-1].bit_length()
    column = lax.shift_right_logical(column, jnp.full_like(column, unused_bits)).astype(jnp.int32)
    ids = jnp.where(toss < distribution.threshold[column], column, distribution.alias[column])
    return Negatives(ids, distribution.logq[ids])


def in_batch(positives: Array, distribution: PopularityDistribution | Array) -> Negatives:
    """The positives of a batch as negatives of one another, so that one product scores all.

    For an example, the ``B`` ids are its own positive, which
    :func:`accidental_hits` removes, and the positives of the other
    examples: with ``V`` examples that are not padding, ``V - 1`` draws from the law ``q`` of
    positives. So one of the ``B`` slots gives an id with probability ``q (V - 1) / B``, and
    that is ``logq``. It is exact where examples are drawn independently from the log; a
    batch of many positions of one user is not.

    Args:
      positives: ``i32[B]``. Padding, ids outside the catalogue and items that
        ``distribution`` never draws become ``PAD_ID``.
      distribution: the law of positives: ``popularity_distribution(counts, smoothing=0.0)``
        of the log that the batch is from, or ``f32[N]`` log-probabilities.

    Returns:
      ``ids i32[B]`` and ``logq f32[B]``.

    Raises:
      ValueError: ``positives`` is not a vector of at least 2 integers, or ``distribution``
        is not one of items.

    References:
      Yi et al., "Sampling-Bias-Corrected Neural Modeling for Large Corpus Item
      Recommendations", RecSys 2019.
    """
    ids, logq, others = _draws_of_batch(positives, _logq_of_items(distribution))
    return Negatives(ids, logq + jnp.log(jnp.maximum(others, 1.0) / len(positives)))


def mixed(key: Array, positives: Array, num_uniform: int, distribution: PopularityDistribution | Array) -> Negatives:
    """The positives of the batch and items drawn uniformly: every item of the catalogue has its turn.

    How many slots are of the batch and how many uniform is fixed, but an item may come from
    either. So each is weighed by how often both together are expected to give it (the balance
    heuristic of Veach and Guibas): with ``V`` examples that are not padding and ``M = B +
    num_uniform``,

      ``logq(i) = log(((V - 1) q(i) + num_uniform / N) / M)``.

    Sums over the catalogue are then unbiased, and no item weighs more than in a sum over the
    uniform draws alone. Weighed by the part that it came from instead, a rare item of the
    batch weighs ``1 / q(i)``, and the two parts are two estimates of one sum, to be averaged.

    Args:
      key: a key of ``jax.random``.
      positives: see :func:`in_batch`.
      num_uniform: items to draw uniformly; at least 1.
      distribution: see :func:`in_batch`.

    Returns:
      ``ids i32[M]``, the batch first, and ``logq f32[M]``.

    Raises:
      ValueError: as :func:`in_batch`, or ``num_uniform`` is below 1.

    References:
      Yang et al., "Mixed Negative Sampling for Learning Two-tower Neural Networks in
      Recommendations", WWW 2020 Companion.

      Veach, Guibas, "Optimally Combining Sampling Techniques for Monte Carlo Rendering",
      SIGGRAPH 1995.
    """
    if num_uniform < 1:
        raise ValueError(f"num_uniform is {num_uniform}; it must be at least 1 (use in_batch for none).")
    logq_of_items = _logq_of_items(distribution)
    num_items = len(logq_of_items)
    batch_ids, batch_logq, others = _draws_of_batch(positives, logq_of_items)
    uniform_ids = uniform(key, (num_uniform,), num_items).ids
    ids = jnp.concatenate([batch_ids, uniform_ids])
    logq = jnp.concatenate([batch_logq, logq_of_items[uniform_ids]])
    from_batch = logq + jnp.log(jnp.maximum(others, 0.0) / len(ids))
    return Negatives(ids, jnp.logaddexp(from_batch, math.log(num_uniform / num_items / len(ids))))


def merged(drawn: Negatives, num_items: int) -> Negatives:
    """Each drawn item once, as likely as all of its draws: the same estimate from fewer scores.

    A sum ``Σⱼ f(idⱼ) / (M qⱼ)`` over draws stays what it is, so this is for losses that weigh scores so,
    :func:`recjax.losses.sampled_softmax`, and pays where there are more draws than items: every position of
    many histories as negatives of one another.

    >>> drawn = Negatives(jnp.array([2, 0, 2, 2]), jnp.log(jnp.array([0.75, 0.25, 0.75, 0.75])))
    >>> once = merged(drawn, 2)
    >>> once.ids.tolist(), (1 / (3 * jnp.exp(once.logq)))[:2].round(3).tolist()
    ([0, 2, -1], [1.0, 1.0])

    Args:
      drawn: ``M`` of them, which a batch shares.
      num_items: how many different ones there can be.

    Returns:
      ``M' = min(M, num_items + 1)`` of them, in the order of their ids, ``PAD_ID`` where there are fewer.

    Raises:
      ValueError: ``drawn`` are each example's own.
    """
    if drawn.ids.ndim != 1:
        raise ValueError(f"drawn.ids must have shape [M], shared by a batch; got {drawn.ids.shape}.")
    size = min(len(drawn.ids), num_items + 1)  # One more for the lack of an item.
    ids, first, counts = jnp.unique(drawn.ids, size=size, fill_value=PAD_ID, return_index=True, return_counts=True)
    draws = jnp.maximum(counts, 1).astype(jnp.float32)
    return Negatives(ids, drawn.logq[first] - jnp.log(draws * (size / len(drawn.ids))))


def accidental_hits(positives: Array, negative_ids: Array, *, known: Array | None = None) -> Array:
    """Which negatives are no negatives: an example's own positive, what it is known to like, padding.

    Args:
      positives: ``i32[B]``.
      negative_ids: ``i32[M]`` or ``i32[B, M]``; those below 0 (``PAD_ID``) are hits.
      known: ``i32[B, P]`` other positives of each example, such as its history, padded with
        ``PAD_ID``, or None. An estimate of the softmax then leaves them out of its
        denominator.

    >>> accidental_hits(positives=jnp.array([1, 0]), negative_ids=jnp.array([1, 2, 3])).tolist()
    [[True, False, False], [False, False, False]]

    Returns:
      ``bool[B, M]``, True where the negative is to be removed.

    Raises:
      ValueError: the ids are no integers, or the shapes do not fit.
    """
    batch, width = len(positives) if positives.ndim == 1 else -1, negative_ids.shape[-1:]
    if batch < 0 or negative_ids.shape not in (width, (batch, *width)) or not width:
        raise ValueError(
            "positives must have shape [B] and negative_ids [M] or [B, M];"
            f" got {positives.shape} and {negative_ids.shape}."
        )
    if known is not None and (known.ndim != 2 or len(known) != batch):
        raise ValueError(f"known must have shape [B, P] with B = {batch}, padded with PAD_ID; got {known.shape}.")
    for name, ids in (("positives", positives), ("negative_ids", negative_ids), ("known", known)):
        if ids is not None and not jnp.issubdtype(ids.dtype, jnp.integer):
            raise ValueError(f"{name} must be integers; got {ids.dtype}.")
    ids = jnp.broadcast_to(negative_ids, (batch, *width))
    hits = (ids < 0) | (ids == positives[:, None])
    return hits if known is None or not known.size else hits | _among(ids, known)


def _among(ids: Array, known: Array) -> Array:
    """Whether each of ``ids [B, M]`` is in the same row of ``known [B, P]``, without the ``B M P`` comparisons."""
    known = jnp.sort(known, axis=1)
    place = jax.vmap(jnp.searchsorted)(known, ids)
    return jnp.take_along_axis(known, jnp.minimum(place, known.shape[1] - 1), axis=1) == ids


def _draws_of_batch(positives: Array, logq_of_items: Array) -> tuple[Array, Array, Array]:
    """Ids ``i32[B]``, their log-probabilities (0 for padding), and how many are other examples' than one's own."""
    if positives.ndim != 1 or len(positives) < 2 or not jnp.issubdtype(positives.dtype, jnp.integer):
        raise ValueError(
            f"positives must be integers of shape [B] with B >= 2; got {positives.dtype}{positives.shape}."
            " A batch of one has no other positives: draw with uniform or popularity."
        )
    in_range = (positives >= 0) & (positives < len(logq_of_items))
    logq = logq_of_items[jnp.where(in_range, positives, 0)]
    known = in_range & (logq > -jnp.inf)
    ids = jnp.where(known, positives, PAD_ID).astype(jnp.int32)
    return ids, jnp.where(known, logq, 0.0), known.sum(dtype=jnp.float32) - 1.0


def _logq_of_items(distribution: PopularityDistribution | Array) -> Array:
    logq = distribution.logq if isinstance(distribution, PopularityDistribution) else distribution
    if logq.ndim != 1 or not logq.size or not jnp.issubdtype(logq.dtype, jnp.floating):
        raise ValueError(f"Log-probabilities of items must be floating of shape [N]; got {logq.dtype}{logq.shape}.")
    return logq.astype(jnp.float32)


def _checked(shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(shape) not in (1, 2) or min(shape) < 1:
        raise ValueError(f"shape is {tuple(shape)}; it must be (M,) or (B, M), every entry at least 1.")
    return tuple(shape)
