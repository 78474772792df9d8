"""Self-training: confident predictions of a trained recommender become labels for the next one."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from recjax.catalogue import logsumexp, top_k
from recjax.data import Sequences, last_histories, observations
from recjax.nn import Recommendation, catalogue_scores
from recjax.types import Array, Behaviour, Items, PyTree


def pseudo_labels(
    module: Recommendation,
    params: PyTree,
    sequences: Sequences,
    items: Items,
    *,
    history_length: int = 200,
    per_user: int = 1,
    min_probability: float = 0.0,
    behaviour: Behaviour = Behaviour.CLICK,
    context: Array | None = None,
    batch_size: int = 256,
) -> Sequences:
    """Appends the most probable next items of a recommender to every history (pseudo-labels).

    The student is any recommender that is trained on the result by :func:`fit_sequences`. The
    expected items stand behind what the user did, the most probable first; a user without
    events gets none, and nobody gets an item that they have had.

    Args:
      module: the teacher.
      params: its parameters.
      sequences: the log, with all users, labelled or not.
      items: features of all items.
      history_length: events that the teacher sees.
      per_user: labels of a user, at most.
      min_probability: of an item under the softmax of the items that the user has not had, below
        which it is no label.
      behaviour: what the users are taken to do to these items.
      context: ``f32[U, C]`` what else is known of every user.
      batch_size: users at once.

    Returns:
      The sequences with the labels; times are those of each user's last event.

    Raises:
      ValueError: ``per_user`` or ``min_probability`` make no sense.

    References:
      Lee, "Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method for Deep
      Neural Networks", 2013; for histories that are made longer by a model of them, Liu et
      al., "Augmenting Sequential Recommendation with Pseudo-Prior Items via Reversely
      Pre-training Transformer", SIGIR 2021.
    """
    if not 1 <= per_user <= module.num_items:
        raise ValueError(f"per_user is {per_user}; it must lie in 1 .. {module.num_items}, the size of the catalogue.")
    if not 0 <= min_probability <= 1:
        raise ValueError(f"min_probability is {min_probability}; it must lie in [0, 1].")
    starts = np.asarray(sequences.starts)
    lengths = np.diff(starts)
    users = np.flatnonzero(lengths)
    if not len(users):
        return sequences
    longest = int(lengths.max())
    counts = np.zeros(sequences.num_users, np.int64)
    chosen = []
    for first in range(0, len(users), batch_size):
        batch = users[first : first + batch_size]
        padded = np.resize(batch, min(batch_size, len(users)))  # one shape, compiled once
        ids, probability = _expected(
            module, params, sequences, items, jnp.asarray(padded), context, history_length, longest, per_user
        )
        sure = np.asarray(probability)[: len(batch)] >= min_probability
        sure &= np.asarray(ids)[: len(batch)] >= 0
        counts[batch] = sure.sum(-1)
        chosen.append(np.asarray(ids)[: len(batch)][sure])
    ends = np.repeat(starts[1:], counts)
    columns = {
        "items": np.insert(np.asarray(sequences.items), ends, np.concatenate(chosen)),
        "behaviours": np.insert(np.asarray(sequences.behaviours), ends, int(behaviour)),
        "starts": starts + np.concatenate([[0], np.cumsum(counts)]),
    }
    if sequences.times is not None:
        times = np.asarray(sequences.times)
        columns["times"] = np.insert(times, ends, times[ends - 1])
    return Sequences(**{name: jnp.asarray(column, jnp.int32) for name, column in columns.items()})


@partial(jax.jit, static_argnames=("module", "history_length", "longest", "per_user"))
def _expected(
    module: Recommendation,
    params: PyTree,
    sequences: Sequences,
    items: Items,
    users: Array,
    context: Array | None,
    history_length: int,
    longest: int,
    per_user: int,
) -> tuple[Array, Array]:
    """The most probable new items of users, and how probable they are, each ``[B, per_user]``."""
    observation = observations(sequences, history_length, users, context=context)
    queries, index = catalogue_scores(module, params, observation, items)
    had, _ = last_histories(sequences, longest, users)
    scores, ids = top_k(queries, index, per_user, exclude=had)
    return ids, jnp.exp(scores - logsumexp(queries, index, exclude=had)[:, None])
