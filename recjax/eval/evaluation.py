"""Evaluation of a scoring function on held-out interactions, in batches of users."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from recjax.catalogue import Catalogue, as_scorer, dense_scorer
from recjax.data import SeenItems
from recjax.eval.full_ranking import target_ranks
from recjax.eval.intervals import Interval, bootstrap_interval
from recjax.eval.protocol import Protocol, SampledProtocol
from recjax.eval.ranking import ranking_metrics
from recjax.eval.sampled_ranking import check_popularity, with_negatives
from recjax.types import Array, Observation, PyTree, check_ids

ScoreFn = Callable[[Any], Any]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Ranking metrics of one model, with the protocol that they were measured under.

    Attributes:
      metrics: metric name to the mean over the users that have a target.
      per_user: metric name to ``f32[U]``; NaN for users without a target.
      ranks: ``f32[U, R]`` rank of each target, see :func:`recjax.eval.target_ranks`.
      protocol: how all this was measured.
    """

    metrics: dict[str, float]
    per_user: dict[str, np.ndarray]
    ranks: np.ndarray
    protocol: Protocol

    @property
    def num_users(self) -> int:
        """How many users have a target; the means are over these."""
        return int(np.sum(~np.isnan(self.ranks).all(axis=-1)))

    def interval(self, name: str, *, level: float = 0.95, seed: int = 0) -> Interval:
        """The bootstrap interval over users of one metric.

        Raises:
          ValueError: there is no such metric, or as :func:`recjax.eval.bootstrap_interval`.
        """
        _check_names([name], self.per_user)
        return bootstrap_interval(self.per_user[name], level=level, seed=seed)

    def __str__(self) -> str:
        numbers = "  ".join(f"{name} {value:.4f}" for name, value in self.metrics.items())
        return f"{numbers}\n{self.protocol} | users: {self.num_users}"


def evaluate(
    score_fn: ScoreFn,
    histories: PyTree,
    targets: Array,
    protocol: Protocol,
    *,
    seen: Array | SeenItems | None = None,
    candidates: Array | None = None,
    popularity: Array | None = None,
    batch_size: int = 256,
) -> Evaluation:
    """Ranks held-out items and averages the ranking metrics over users.

    Users go through in batches; the result does not depend on their size (beyond the
    rounding of the model's own arithmetic), and only one batch of scores exists at a time.
    With ``R`` targets a user a batch has ``batch_size // R`` users, and at least one, since
    each target is compared with a block of items: memory follows ``batch_size`` and, only
    beyond it, ``R``.

    Args:
      score_fn: ``histories -> scores f32[B, N]`` or ``histories -> (queries, items)`` for
        what :mod:`recjax.catalogue` takes, so that large catalogues are scored in blocks.
        It is traced by JAX. A pytree that can be called (``jax.tree_util.Partial(fn,
        params)``, a ``flax.struct.dataclass``) does not compile again for new values.
      histories: what the model sees of each user, leaves with leading ``[U]``: item ids
        ``i32[U, L]``, or an :class:`~recjax.types.Observation`.
      targets: ``i32[U]`` held-out items, or ``i32[U, R]`` padded; ``PAD_ID`` for users who
        have none. Items outside the catalogue can only be missed.
      protocol: what is measured.
      seen: the items each user met before, ``i32[U, S]`` padded or a
        :class:`recjax.data.SeenItems`, whose rows are padded batch by batch; needed when the
        protocol excludes them.
      candidates: ``bool[N]``, the items that compete; the protocol's ``item_filter`` must
        then say which. All when None. A target that is none of them is a miss.
      popularity: ``f32[N]``, finite and at least 0, for popularity-sampled negatives.
      batch_size: users scored at once where each has one target.

    Raises:
      ValueError: arguments contradict each other, the protocol or the size of the
        catalogue, ids are no integers, or a popularity is negative or not finite.

    >>> protocol = Protocol(split="by hand", history_length=1, ks=(1, 2), seen="kept")
    >>> popularity = jnp.array([3.0, 1.0, 2.0])
    >>> def score_fn(histories):
    ...     return jnp.tile(popularity, (len(histories), 1))
    >>> evaluation = evaluate(score_fn, jnp.array([[1], [1]]), jnp.array([0, 2]), protocol)
    >>> evaluation.metrics["hit_rate@1"], evaluation.metrics["hit_rate@2"]
    (0.5, 1.0)
    """
    held_out = np.asarray(check_ids("targets", targets), np.int32)
    held_out = held_out[:, None] if held_out.ndim == 1 else held_out
    _check_users(histories, held_out, protocol, seen, batch_size)
    candidates, popularity = jax.tree.map(jnp.asarray, _competitors(protocol, candidates, popularity))
    num_users, num_targets = held_out.shape
    size = min(max(1, batch_size // max(1, num_targets)), num_users)
    # A function that is no pytree may close over arrays that change, so its trace is not kept.
    own_trace = jax.tree.leaves(score_fn) == [score_fn]
    rank = jax.jit(partial(_rank_batch, score_fn, protocol)) if own_trace else partial(_rank_jitted, score_fn, protocol)
    seen = seen if protocol.seen == "excluded" else None
    ragged = seen if isinstance(seen, SeenItems) else None
    everyone = jax.tree.map(jnp.asarray, (histories, held_out, seen if ragged is None else None))
    ranks = []
    for start in range(0, num_users, size):
        # The last batch is filled up by repeating the last user, so that all have one shape.
        rows = np.minimum(np.arange(start, start + size), num_users - 1)
        shown, asked, exclude = _rows(everyone, rows)
        exclude = exclude if ragged is None else jnp.asarray(ragged.rows(rows))
        users = _Users(jnp.asarray(rows), shown, asked, exclude)
        ranks.append(np.asarray(rank(users, candidates, popularity)))
    return _summarise(np.concatenate(ranks)[:num_users], protocol)


class _Users(NamedTuple):
    """A batch of users: ``ids i32[B]``, histories, targets ``i32[B, R]``, excluded items ``i32[B, S]`` or None."""

    ids: Array
    histories: PyTree
    targets: Array
    exclude: Array | None


@jax.jit
def _rows(tree: PyTree, rows: Array) -> PyTree:
    return jax.tree.map(lambda leaf: leaf[rows], tree)


def table(evaluations: Mapping[str, Evaluation], metrics: Sequence[str] | None = None) -> str:
    """Models and their metrics as a Markdown table, with the protocol below it.

    Args:
      evaluations: model name to its evaluation.
      metrics: names of the columns; all when None.

    Raises:
      ValueError: no evaluations, their protocols or numbers of users differ, or one lacks a metric.
    """
    protocols = {f"{each.protocol} | users: {each.num_users}": each for each in evaluations.values()}
    if len(protocols) != 1:
        listed = "".join(f"\n  {protocol}" for protocol in protocols) or " none"
        raise ValueError(f"Numbers of one table need one protocol; got:{listed}")
    (protocol, first), *_ = protocols.items()
    names = list(first.metrics if metrics is None else metrics)
    for each in evaluations.values():
        _check_names(names, each.metrics)
    rows = [["model", *names], ["---", *("---:" for _ in names)]]
    rows += [[model, *(f"{e.metrics[name]:.4f}" for name in names)] for model, e in evaluations.items()]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*lines, "", protocol])


def _rank_batch(
    score_fn: ScoreFn, protocol: Protocol, users: _Users, candidates: Array | None, popularity: Array | None
) -> Array:
    queries, items = _as_catalogue(score_fn(users.histories), len(users.targets))
    num_items = as_scorer(items).num_items
    for name, column in (("candidates", candidates), ("popularity", popularity)):
        if column is not None and len(column) != num_items:
            raise ValueError(
                f"{name} has length {len(column)}, but the model scores {num_items} items; give one value each."
            )
    if isinstance(protocol, SampledProtocol):
        allowed = jnp.ones(num_items, bool) if candidates is None else candidates
        candidates = with_negatives(protocol, users.ids, users.targets, users.exclude, allowed, popularity)
    return target_ranks(queries, items, users.targets, exclude=users.exclude, candidates=candidates, ties=protocol.ties)


_rank_jitted = jax.jit(_rank_batch, static_argnums=1)


def _as_catalogue(scored: Any, num_users: int) -> tuple[PyTree, Catalogue]:
    if isinstance(scored, tuple):
        return scored
    scores = jnp.asarray(scored)
    if scores.ndim != 2 or len(scores) != num_users:
        raise ValueError(f"score_fn gave scores of shape {scores.shape} for {num_users} users; it must be [B, N].")
    return dense_scorer(scores)


def _summarise(ranks: np.ndarray, protocol: Protocol) -> Evaluation:
    per_user = {name: np.asarray(values) for name, values in ranking_metrics(jnp.asarray(ranks), protocol.ks).items()}
    defined = ~np.isnan(per_user["mrr"])
    metrics = {
        name: float(values[defined].mean(dtype=np.float64)) if defined.any() else float("nan")
        for name, values in per_user.items()
    }
    return Evaluation(metrics, per_user, ranks, protocol)


def _check_names(names: Sequence[str], known: Mapping[str, Any]) -> None:
    missing = [name for name in names if name not in known]
    if missing:
        raise ValueError(f"This evaluation has no metric {missing[0]!r}; it has {', '.join(known)}.")


def _check_users(
    histories: PyTree, targets: np.ndarray, protocol: Protocol, seen: Array | SeenItems | None, batch_size: int
) -> None:
    if targets.ndim != 2:
        raise ValueError(f"targets has shape {targets.shape}; give one held-out item a user, [U], or several, [U, R].")
    if len(targets) == 0:
        raise ValueError("There are no users to evaluate: targets is empty.")
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; at least one user is scored at once.")
    if protocol.seen == "excluded" and seen is None:
        raise ValueError(
            "The protocol excludes seen items: give seen=i32[U, S] or a SeenItems, or set Protocol(seen='kept')."
        )
    lengths = {leaf.shape[0] for leaf in jax.tree.leaves(histories)}
    if seen is not None:
        lengths.add(len(seen))
        if not isinstance(seen, SeenItems) and np.ndim(check_ids("seen", seen)) != 2:
            raise ValueError(f"seen has shape {np.shape(seen)}; it must be [U, S], padded with PAD_ID.")
    if lengths != {len(targets)}:
        raise ValueError(f"targets are of {len(targets)} users, but histories and seen of {sorted(lengths)}.")
    given = histories.history if isinstance(histories, Observation) else histories
    if isinstance(given, np.ndarray | jax.Array) and check_ids("histories", given).shape[-1] != protocol.history_length:
        raise ValueError(
            f"The protocol says history_length={protocol.history_length}, but the histories have length"
            f" {given.shape[-1]}."
        )
    if protocol.ties == "average" and targets.shape[1] > 1:
        raise ValueError("ties='average' needs one target a user: tied targets would share a rank. Use 'lowest_id'.")
    if isinstance(protocol, SampledProtocol) and targets.shape[1] > 1:
        raise ValueError(f"Sampled ranking needs one target a user; targets has shape {targets.shape}.")


def _competitors(
    protocol: Protocol, candidates: Array | None, popularity: Array | None
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The checked candidates ``bool[N]`` and popularity ``f32[N]``, where they are given."""
    among = None if candidates is None else np.asarray(candidates)
    if among is not None:
        if protocol.item_filter == "all":
            raise ValueError("Only some items compete: name them in Protocol(item_filter=...), which says 'all'.")
        if among.dtype != bool or among.ndim != 1:
            raise ValueError(
                f"candidates has shape {among.shape} and dtype {among.dtype}; it must be bool[N], one truth"
                " value an item."
            )
        if not among.any():
            raise ValueError("candidates is False everywhere, so no item competes and every target would be a miss.")
    by_popularity = isinstance(protocol, SampledProtocol) and protocol.negatives == "popularity"
    if by_popularity and popularity is None:
        raise ValueError("The protocol samples negatives by popularity: give popularity=f32[N].")
    if popularity is None:
        return among, None
    if not by_popularity:
        raise ValueError(
            "popularity is for SampledProtocol(negatives='popularity'); full ranking has no use for it, nor have"
            " uniform negatives."
        )
    return among, check_popularity(popularity, among)
