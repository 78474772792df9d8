"""Evaluation of a scoring function on held-out interactions, in batches of users."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from recjax.catalogue import as_scorer, dense_scorer
from recjax.eval.full_ranking import target_ranks
from recjax.eval.intervals import Interval, bootstrap_interval
from recjax.eval.protocol import Protocol, SampledProtocol
from recjax.eval.ranking import ranking_metrics
from recjax.types import Array, Observation, PyTree

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
        """The bootstrap interval over users of one metric."""
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
    seen: Array | None = None,
    candidates: Array | None = None,
    popularity: Array | None = None,
    batch_size: int = 256,
) -> Evaluation:
    """Ranks held-out items and averages the ranking metrics over users.

    Users go through in batches; the result does not depend on their size (beyond the
    rounding of the model's own arithmetic), and only one batch of scores exists at a time.

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
      seen: ``i32[U, S]`` padded, the items each user met before; needed when the protocol
        excludes them.
      candidates: ``bool[N]``, the items that compete; the protocol's ``item_filter`` must
        then say which. All when None.
      popularity: ``f32[N]``, for popularity-sampled negatives.
      batch_size: users scored at once.

    Raises:
      ValueError: arguments contradict each other or the protocol.

    >>> protocol = Protocol(split="by hand", history_length=1, ks=(1, 2), seen="kept")
    >>> popularity = jnp.array([3.0, 1.0, 2.0])
    >>> def score_fn(histories):
    ...     return jnp.tile(popularity, (len(histories), 1))
    >>> evaluation = evaluate(score_fn, jnp.array([[1], [1]]), jnp.array([0, 2]), protocol)
    >>> evaluation.metrics["hit_rate@1"], evaluation.metrics["hit_rate@2"]
    (0.5, 1.0)
    """
    held_out = np.asarray(targets, np.int32)
    held_out = held_out[:, None] if held_out.ndim == 1 else held_out
    _check(histories, held_out, protocol, seen, candidates, popularity)
    num_users = len(held_out)
    size = min(batch_size, num_users)
    # A function that is no pytree may close over arrays that change, so its trace is not kept.
    own_trace = jax.tree.leaves(score_fn) == [score_fn]
    rank = jax.jit(partial(_rank_batch, score_fn, protocol)) if own_trace else partial(_rank_jitted, score_fn, protocol)
    everyone = jax.tree.map(jnp.asarray, (histories, held_out, seen))
    ranks = []
    for start in range(0, num_users, size):
        # The last batch is filled up by repeating the last user, so that all have one shape.
        rows = np.minimum(np.arange(start, start + size), num_users - 1)
        ranks.append(np.asarray(rank(*_rows(everyone, rows), rows, candidates, popularity)))
    return _summarise(np.concatenate(ranks)[:num_users], protocol)


@jax.jit
def _rows(tree: PyTree, rows: Array) -> PyTree:
    return jax.tree.map(lambda leaf: leaf[rows], tree)


def table(evaluations: Mapping[str, Evaluation], metrics: Sequence[str] | None = None) -> str:
    """Models and their metrics as a Markdown table, with the protocol below it.

    Args:
      evaluations: model name to its evaluation.
      metrics: names of the columns; all when None.

    Raises:
      ValueError: no evaluations, or their protocols or numbers of users differ.
    """
    protocols = {f"{each.protocol} | users: {each.num_users}": each for each in evaluations.values()}
    if len(protocols) != 1:
        listed = "".join(f"\n  {protocol}" for protocol in protocols) or " none"
        raise ValueError(f"Numbers of one table need one protocol; got:{listed}")
    (protocol, first), *_ = protocols.items()
    names = list(first.metrics if metrics is None else metrics)
    rows = [["model", *names], ["---", *("---:" for _ in names)]]
    rows += [[model, *(f"{e.metrics[name]:.4f}" for name in names)] for model, e in evaluations.items()]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*lines, "", protocol])


def _rank_batch(
    score_fn: ScoreFn,
    protocol: Protocol,
    histories: PyTree,
    targets: Array,
    seen: Array | None,
    users: Array,
    candidates: Array | None,
    popularity: Array | None,
) -> Array:
    scored = score_fn(histories)
    queries, items = scored if isinstance(scored, tuple) else dense_scorer(jnp.asarray(scored))
    exclude = seen if protocol.seen == "excluded" else None
    if isinstance(protocol, SampledProtocol):
        num_items = as_scorer(items).num_items
        allowed = jnp.ones(num_items, bool) if candidates is None else candidates
        candidates = _with_negatives(protocol, users, targets, exclude, allowed, popularity)
    return target_ranks(queries, items, targets, exclude=exclude, candidates=candidates, ties=protocol.ties)


_rank_jitted = jax.jit(_rank_batch, static_argnums=1)


def _with_negatives(
    protocol: SampledProtocol,
    users: Array,
    targets: Array,
    exclude: Array | None,
    candidates: Array,
    popularity: Array | None,
) -> Array:
    """``bool[B, N]``: each user's target and negatives. Gumbel-top-k draws without replacement."""
    num_items = candidates.shape[0]
    logits = jnp.where(candidates, 0.0 if popularity is None else jnp.log(popularity), -jnp.inf)

    def one_user(user: Array, target: Array, unwanted: Array) -> Array:
        key = jax.random.fold_in(jax.random.key(protocol.seed), user)
        drawn = logits + jax.random.gumbel(key, (num_items,))
        drawn = drawn.at[jnp.where(unwanted < 0, num_items, unwanted)].set(-jnp.inf, mode="drop")
        noise, ids = jax.lax.top_k(drawn, min(protocol.num_negatives, num_items))
        chosen = jnp.zeros(num_items, bool).at[ids].set(noise > -jnp.inf)
        return chosen.at[jnp.where(target < 0, num_items, target)].set(True, mode="drop")

    unwanted = targets if exclude is None else jnp.concatenate([targets, exclude], axis=-1)
    return jax.vmap(one_user)(users, targets[:, 0], unwanted)


def _summarise(ranks: np.ndarray, protocol: Protocol) -> Evaluation:
    per_user = {name: np.asarray(values) for name, values in ranking_metrics(jnp.asarray(ranks), protocol.ks).items()}
    defined = ~np.isnan(per_user["mrr"])
    metrics = {
        name: float(values[defined].mean(dtype=np.float64)) if defined.any() else float("nan")
        for name, values in per_user.items()
    }
    return Evaluation(metrics, per_user, ranks, protocol)


def _check(
    histories: PyTree,
    targets: np.ndarray,
    protocol: Protocol,
    seen: Array | None,
    candidates: Array | None,
    popularity: Array | None,
) -> None:
    if len(targets) == 0:
        raise ValueError("There are no users to evaluate: targets is empty.")
    lengths = {leaf.shape[0] for leaf in jax.tree.leaves((histories, seen))}
    if lengths != {len(targets)}:
        raise ValueError(f"targets are of {len(targets)} users, but histories and seen of {sorted(lengths)}.")
    given = histories.history if isinstance(histories, Observation) else histories
    length = getattr(given, "shape", (0, protocol.history_length))[-1]
    if length != protocol.history_length:
        raise ValueError(
            f"The protocol says history_length={protocol.history_length}, but the histories have length {length}."
        )
    if protocol.seen == "excluded" and seen is None:
        raise ValueError("The protocol excludes seen items: give seen=i32[U, S], or set Protocol(seen='kept').")
    if candidates is not None and protocol.item_filter == "all":
        raise ValueError("Only some items compete: name them in Protocol(item_filter=...), which says 'all'.")
    if protocol.ties == "average" and targets.shape[1] > 1:
        raise ValueError("ties='average' needs one target a user: tied targets would share a rank. Use 'lowest_id'.")
    if isinstance(protocol, SampledProtocol):
        if targets.shape[1] > 1:
            raise ValueError(f"Sampled ranking needs one target a user; targets has shape {targets.shape}.")
        if (protocol.negatives == "popularity") != (popularity is not None):
            raise ValueError("Give popularity=f32[N] with negatives='popularity', and only then.")
    elif popularity is not None:
        raise ValueError("popularity is for SampledProtocol(negatives='popularity'); full ranking has no use for it.")
