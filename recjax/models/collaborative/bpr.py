"""Matrix factorisation that ranks what a user had above what the user had not."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax import lax
from jax.scipy.linalg import cho_factor, cho_solve

from recjax import fit, losses
from recjax.catalogue import ItemIndex, RowOptimizer, distinct_ids, lookup, negatives, row_adagrad
from recjax.data import Interactions
from recjax.models.collaborative.base import UserItemMatrix, collaborative_models, user_item_matrix
from recjax.types import Array, PyTree, check_ids

FOLD_IN_NEGATIVES = 256
"""Items, evenly spaced over the catalogue, that a history is compared with when a user is folded in."""

FOLD_IN_STEPS = 5
"""Newton steps of folding in."""

FOLD_IN_PAIRS = 2**19
"""Pairs of items that are compared at once when users are folded in: 2 MiB an array."""


@struct.dataclass
class BPR:
    """Factors of users and items, and biases of items: ``x_ui = <p_u, q_i> + b_i``.

    Users of the training log have factors of their own (:meth:`scores_of`); those of a
    history are solved for (:meth:`fold_in`).

    Attributes:
      user_ids: ``i32[U]`` users of the training log, ascending.
      users: ``f32[U, F]`` their factors.
      items: ``f32[N, F]`` item factors.
      bias: ``f32[N]`` item biases.
      regularization: that of the user factors.
    """

    user_ids: Array
    users: Array
    items: Array
    bias: Array
    regularization: Array

    def item_index(self) -> ItemIndex:
        """What :mod:`recjax.catalogue` scores with user factors as queries."""
        return ItemIndex(self.items, self.bias)

    def scores(self, history: Array) -> Array:
        """``i32[B, L]`` -> ``f32[B, N]``; the biases alone where a history has no known items."""
        return self.item_index().scores(self.fold_in(history))

    def scores_of(self, users: Array) -> Array:
        """Scores by the factors that were trained, ``i32[B]`` users as in the log -> ``f32[B, N]``.

        A user who has no events in the training log gets the biases alone.

        Raises:
          ValueError: ``users`` are no integers.
        """
        users = jnp.asarray(check_ids("users", users))
        row = jnp.minimum(jnp.searchsorted(self.user_ids, users), len(self.user_ids) - 1)
        known = self.user_ids[row] == users
        return self.item_index().scores(jnp.where(known[:, None], self.users[row], 0.0))

    def fold_in(self, history: Array) -> Array:
        """User factors ``f32[B, F]`` of histories ``i32[B, L]``.

        They minimise what the factors of a user are trained for, given the items,

          ``mean_ij -log σ(x_ui - x_uj) + regularization / 2 |p_u|^2``,

        over the distinct items ``i`` of the history and, of 256 items that are evenly spaced
        over the catalogue (all items of a smaller one), those ``j`` that are not in the
        history. The function is convex. Five Newton steps from 0, shortened where a whole one
        would go too far, end at the minimum up to rounding with the default regularisation,
        and close to it with a tenth of that. A step costs ``256 L (F + 2)`` multiplications
        and exponentials a user, much more than scoring the items.
        """
        num_items = len(self.items)
        items = jnp.sort(distinct_ids(history, num_items))
        pairs = max(1, items.shape[1] * min(FOLD_IN_NEGATIVES, num_items))
        users = max(1, min(len(items), FOLD_IN_PAIRS // pairs))
        return lax.map(self._fold_in_one, items, batch_size=users)

    def _fold_in_one(self, items: Array) -> Array:
        """Factors ``f32[F]`` from distinct items ``i32[L]``, filled up with ``N``."""
        num_items, factors = self.items.shape
        count = min(FOLD_IN_NEGATIVES, num_items)
        others = jnp.asarray(np.arange(count) * num_items // count, jnp.int32)
        compared = (items < num_items)[:, None] & ~jnp.isin(others, items)[None, :]
        share = compared / jnp.maximum(compared.sum(), 1)
        # Only differences of items count; around their mean, sums of squares lose fewest digits.
        centre = self.items[others].mean(0, keepdims=True)
        had, not_had = self.items.at[items].get(mode="clip") - centre, self.items[others] - centre
        had_bias, not_had_bias = self.bias.at[items].get(mode="clip"), self.bias[others]

        def margins(user: Array) -> Array:
            return (had @ user + had_bias)[:, None] - (not_had @ user + not_had_bias)[None, :]

        def newton_step(user: Array, _: None) -> tuple[Array, None]:
            margin = margins(user)
            slope = share * jax.nn.sigmoid(-margin)
            curvature = slope * jax.nn.sigmoid(margin)
            gradient = self.regularization * user - slope.sum(1) @ had + slope.sum(0) @ not_had
            cross = had.T @ (curvature @ not_had)
            squares = jnp.einsum("lf,l,lg->fg", had, curvature.sum(1), had)
            squares += jnp.einsum("lf,l,lg->fg", not_had, curvature.sum(0), not_had)
            hessian = squares - cross - cross.T + self.regularization * jnp.eye(factors)
            direction = -cho_solve(cho_factor(hessian), gradient)
            full = user + direction
            ahead = margins(full)
            change = jnp.where(compared, ahead - margin, 0.0)
            # A whole step that has not passed the lowest point of its line is the best of all shorter ones. Else,
            # as the third derivative along the line is at most `reach` times the second, a step of
            # log(1 + reach) / reach cannot go up (Sun and Tran-Dinh, 2019).
            falls = self.regularization * (full @ direction) <= (share * jax.nn.sigmoid(-ahead) * change).sum()
            reach = jnp.abs(change).max(initial=1e-6)
            return user + jnp.where(falls, 1.0, jnp.log1p(reach) / reach) * direction, None

        return lax.scan(newton_step, jnp.zeros(factors), None, length=FOLD_IN_STEPS)[0]


@collaborative_models.register("bpr")
def bpr(
    interactions: Interactions,
    num_items: int,
    *,
    factors: int = 64,
    learning_rate: float = 0.1,
    regularization: float = 0.03,
    epochs: int = 20,
    batch_size: int = 4096,
    negatives_per_positive: int = 1,
    weight: str = "binary",
    key: Array | None = None,
) -> BPR:
    """Factorises the user-item matrix by stochastic gradient descent on pairs of items.

    Minimises, over pairs of a user and an item ``i`` that the user had, and items ``j`` that
    the user had not,

      ``-log σ(x_ui - x_uj) + regularization / 2 (|p_u|^2 + |q_i|^2 + b_i^2 + |q_j|^2 + b_j^2)``.

    An epoch takes every pair of the matrix once, in random order, and draws ``j`` anew from
    all items, uniformly. A ``j`` that the user had is left out, not drawn again, so pairs of
    users who had a share ``s`` of the catalogue count ``1 - s`` with one negative. Rows are
    updated by row-wise Adagrad, each at its own rate, where the paper takes plain steps; an
    update costs the same whatever the size of the catalogue.

    Args:
      interactions: the training log.
      num_items: items in the catalogue.
      factors: ``F``.
      learning_rate: of Adagrad; above 0.
      regularization: above 0.
      epochs: passes over the pairs; 0 returns the random start.
      batch_size: pairs an update.
      negatives_per_positive: items ``j`` a pair; the loss is their mean.
      weight: entries of the matrix, see :func:`~recjax.models.collaborative.user_item_matrix`;
        the loss of a pair is multiplied by its entry over the mean of all entries. The paper
        has ``binary``.
      key: of the start, the order and the negatives; ``jax.random.key(0)`` by default.

    Raises:
      ValueError: an option is out of range.

    References:
      Rendle et al., "BPR: Bayesian Personalized Ranking from Implicit Feedback", UAI 2009.
      Sun and Tran-Dinh, "Generalized self-concordant functions: a recipe for Newton-type
      methods", Mathematical Programming 2019 (folding in).
    """
    counts = {
        "factors": (factors, 1), "epochs": (epochs, 0), "batch_size": (batch_size, 1),
        "negatives_per_positive": (negatives_per_positive, 1),
    }  # fmt: skip
    for name, (value, least) in counts.items():
        if value < least:
            raise ValueError(f"{name} is {value}; bpr needs at least {least}.")
    for name, rate in (("learning_rate", learning_rate), ("regularization", regularization)):
        if not 0 < rate < np.inf:
            raise ValueError(f"{name} is {rate}; bpr needs a finite number above 0.")
    matrix = user_item_matrix(interactions, num_items, weight)
    user_key, item_key, fit_key = jax.random.split(jax.random.key(0) if key is None else key, 3)
    vectors = 0.1 * jax.random.normal(item_key, (num_items, factors))
    params = {
        "user": 0.1 * jax.random.normal(user_key, (matrix.num_users, factors)),
        # The bias is the last column, so that an item is one row.
        "item": jnp.pad(vectors, ((0, 0), (0, 1))),
    }
    if epochs:
        plan = fit.TrainingPlan(epochs, min(batch_size, len(matrix.item)))
        params = _fit(
            matrix, params, row_adagrad(learning_rate), regularization, negatives_per_positive, plan, key=fit_key
        )
    return BPR(
        user_ids=jnp.asarray(matrix.ids),
        users=params["user"],
        items=params["item"][:, :-1],
        bias=params["item"][:, -1],
        regularization=jnp.float32(regularization),
    )


def _fit(
    matrix: UserItemMatrix,
    params: PyTree,
    optimizer: RowOptimizer,
    regularization: float,
    num_negatives: int,
    plan: fit.TrainingPlan,
    *,
    key: Array,
) -> PyTree:
    """Trains ``{"user": f32[U, F], "item": f32[N, F + 1]}``."""
    starts, had = jnp.asarray(matrix.starts, jnp.int32), jnp.asarray(matrix.item)
    longest = int(np.diff(matrix.starts).max())

    def loss_fn(params: PyTree, batch: tuple[Array, Array, Array], key: Array) -> tuple[Array, dict]:
        user, positive, weight = batch
        drawn = negatives.uniform(key, (len(user), num_negatives), matrix.num_items).ids
        hits = _is_entry(starts, had, user, drawn, longest)
        each = _losses(params, user, positive, drawn, hits, regularization)
        return (weight * each).mean(), {}

    by_rows = fit.RowWise(optimizer, optax.identity(), names=("user", "item"))
    data = (matrix.user, matrix.item, matrix.weight / matrix.weight.mean())
    return fit.fit_epochs(loss_fn, by_rows, params, data, plan, key=key).params


def _losses(params: PyTree, user: Array, positive: Array, drawn: Array, hits: Array, regularization: float) -> Array:
    """``f32[B]`` for users and positives ``i32[B]`` and negatives ``i32[B, M]``, which ``hits`` leaves out."""
    users = lookup(params["user"], user)
    items = lookup(params["item"], jnp.concatenate([positive[:, None], drawn], axis=1))
    scores = jnp.einsum("bf,bmf->bm", users, items[..., :-1]) + items[..., -1]
    ranking = losses.bpr(scores[:, 0], scores[:, 1:], hits=hits)
    kept = ~hits / jnp.maximum((~hits).sum(1, keepdims=True), 1)
    # An example none of whose negatives is kept is no triple: nothing of it is regularised.
    size = (
        jnp.square(users).sum(-1, keepdims=True) + jnp.square(items[:, :1]).sum(-1) + jnp.square(items[:, 1:]).sum(-1)
    )
    return ranking + 0.5 * regularization * (kept * size).sum(1)


def _is_entry(starts: Array, columns: Array, row: Array, column: Array, longest: int) -> Array:
    """Whether ``column [B, M]`` is among the entries of ``row [B]`` of a sparse matrix, by bisection."""
    place, end = jnp.broadcast_to(starts[row][:, None], column.shape), starts[row + 1][:, None]
    for power in reversed(range(longest.bit_length())):
        beyond = place + 2**power
        place = jnp.where((beyond <= end) & (columns[beyond - 1] < column), beyond, place)
    return (place < end) & (columns[place] == column)
