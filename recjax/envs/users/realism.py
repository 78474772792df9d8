"""Simulated sessions beside those of a log, and whether the two can be told apart.

Users of the log are divided in two at random. Of one half the log tells what followed from the first exposure that was
held out, up to the end of that session. The other half is simulated from the same moment: they are shown what the log
shows them next (then what it shows others), answer, remember their own answers and leave, as in the environment. Both
are summed up by the same statistics of what a log of this kind would hold, one row a user.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from recjax.data import windows
from recjax.envs.users.answering import Params, Rules, User, respond
from recjax.envs.users.exposures import Exposures
from recjax.envs.users.session_ends import moments
from recjax.envs.users.two_sample import TwoSamples, two_sample_test
from recjax.types import PAD_ID, Array, Items, Observation, PyTree

if TYPE_CHECKING:
    from recjax.envs.users.user_model import UserModel

MOST_EVENTS = 50
"""Events of a session that are compared."""

MOST_USERS = 1000
"""Users of each half."""


class SessionStatistic(NamedTuple):
    """A statistic of sessions: its mean in the log and simulated, and the difference in standard deviations of both."""

    name: str
    real: float
    simulated: float
    difference: float


@dataclasses.dataclass(frozen=True)
class SessionComparison:
    """Simulated sessions beside those of the log.

    Attributes:
      statistics: what they are compared by.
      test: whether they can be told apart by all statistics together.
    """

    statistics: tuple[SessionStatistic, ...]
    test: TwoSamples

    def __str__(self) -> str:
        means = ", ".join(f"{one.name} {one.real:.3g} and {one.simulated:.3g}" for one in self.statistics)
        return (
            f"sessions of {self.test.sizes[0]} users in the log and of {self.test.sizes[1]} simulated: {means};"
            f" two-sample test p = {self.test.p_value:.3g} (squared discrepancy {self.test.discrepancy:.4f})"
        )


class Sessions(NamedTuple):
    """Events of sessions, one row a user.

    Attributes:
      items: ``i32[n, T]``.
      answers: ``bool[n, T, S]``.
      there: ``bool[n, T]`` which of them a log would hold.
    """

    items: np.ndarray
    answers: np.ndarray
    there: np.ndarray


def compare_sessions(
    model: UserModel,
    exposures: Exposures,
    test: np.ndarray,
    items: Items,
    context: Array | None,
    key: Array,
    rng: np.random.Generator,
) -> SessionComparison:
    """Compares sessions of a model with those of the log.

    Args:
      model: of the users.
      exposures: the log.
      test: ``i64[...]`` rows that the model was not fitted to, the newest of each user.
      items: the features of all items.
      context: ``f32[U, C]`` what else is known of users, or None.
      key: of answers and leaving.
      rng: of the halves, and of what is shown when the log of a user ends.
    """
    first = rng.permutation(test[np.append(True, np.diff(exposures.users[test]) > 0)])
    half = min(len(first) // 2, MOST_USERS)
    if half < 2:
        raise ValueError(f"{len(first)} users have held-out exposures; to compare sessions takes at least 4.")
    real = real_sessions(exposures, first[:half])
    simulated = _simulated(model, exposures, first[half : 2 * half], test, items, context, key, rng)
    popularity = np.log1p(np.bincount(exposures.items, minlength=exposures.num_items))
    # Where nothing was taken, a log without impressions knows of no session.
    samples = [
        statistics(Sessions(*(column[sessions.there.any(axis=1)] for column in sessions)), exposures, popularity)
        for sessions in (real, simulated)
    ]
    names = list(samples[0])
    one, other = (np.stack([sample[name] for name in names], axis=1) for sample in samples)
    deviation = np.concatenate([one, other]).std(axis=0)
    apart = (other.mean(axis=0) - one.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)
    rows = zip(names, one.mean(axis=0).tolist(), other.mean(axis=0).tolist(), apart.tolist(), strict=True)
    return SessionComparison(
        tuple(SessionStatistic(*row) for row in rows), two_sample_test(one, other, seed=int(rng.integers(2**31)))
    )


def real_sessions(exposures: Exposures, first: np.ndarray) -> Sessions:
    """What the log holds from rows ``first: i64[n]`` to the ends of their sessions, at most :data:`MOST_EVENTS`."""
    rows = first[:, None] + np.arange(MOST_EVENTS)
    inside = np.minimum(rows, len(exposures) - 1)
    there = (rows < len(exposures)) & (exposures.sessions[inside] == exposures.sessions[first][:, None])
    return Sessions(exposures.items[inside], exposures.answers[inside] & there[..., None], there)


def statistics(sessions: Sessions, exposures: Exposures, popularity: np.ndarray) -> dict[str, np.ndarray]:
    """What sessions are compared by, ``f64[n]`` each."""
    there = sessions.there
    count = np.maximum(there.sum(axis=1), 1)
    taken = sessions.answers.any(axis=2) & there
    found = {"log length": np.log(count)}
    for column, behaviour in enumerate(exposures.behaviours):
        found[f"{behaviour.name.lower()} rate"] = (sessions.answers[:, :, column] & there).sum(axis=1) / count
    popular = popularity[sessions.items]
    of_all = (popular * there).sum(axis=1) / count
    if not exposures.has_impressions:
        return found | {"log popularity": of_all}
    of_taken = (popular * taken).sum(axis=1) / np.maximum(taken.sum(axis=1), 1)
    pairs = there[:, 1:] & there[:, :-1]
    alike = (taken[:, 1:] == taken[:, :-1]) & pairs
    return found | {
        "log popularity of what was taken, beyond that of all": np.where(taken.any(axis=1), of_taken - of_all, 0.0),
        "share of answers like the one before": alike.sum(axis=1) / np.maximum(pairs.sum(axis=1), 1),
    }


def _simulated(
    model: UserModel,
    exposures: Exposures,
    first: np.ndarray,
    test: np.ndarray,
    items: Items,
    context: Array | None,
    key: Array,
    rng: np.random.Generator,
) -> Sessions:
    """Sessions of simulated users from rows ``first: i64[n]`` on."""
    stream = _stream(exposures, first, test, rng)
    member_key, run_key = jax.random.split(key)
    state = _begin(model, exposures, first, context, member_key)
    rules = Rules(model.network, model.behaviours, model.has_impressions, stream.shape[1], None)
    params = Params(model.networks, model.ends, items, state.observation)
    done, staying = jax.tree.map(np.asarray, _run(rules, params, state, jnp.asarray(stream), run_key))
    answers = done.swapaxes(0, 1) > 0
    there = staying.T & (True if model.has_impressions else answers.any(axis=2))
    there &= np.cumsum(there, axis=1) <= MOST_EVENTS
    return Sessions(stream, answers, there)


def _stream(exposures: Exposures, first: np.ndarray, test: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """``i32[n, T]``: what the log shows each user from rows ``first`` on, then what it shows others.

    Where feedback is implicit, something that is presumed to be passed over follows everything that was taken.
    """
    rows = first[:, None] + np.arange(MOST_EVENTS)
    own = rows < exposures.starts[exposures.users[first] + 1][:, None]
    others = exposures.items[rng.choice(test, rows.shape)]
    shown = np.where(own, exposures.items[np.minimum(rows, len(exposures) - 1)], others)
    if exposures.presumed is None:
        return shown
    share = exposures.presumed / exposures.presumed.sum()
    drawn = rng.choice(exposures.num_items, rows.shape, p=share).astype(np.int32)
    return np.stack([shown, drawn], axis=2).reshape(len(first), -1)


def _begin(model: UserModel, exposures: Exposures, first: np.ndarray, context: Array | None, key: Array) -> User:
    """Users as they were before rows ``first``, leaves ``[n, ...]``."""
    before = np.maximum(first - 1, 0)
    goes_on = (first > 0) & (exposures.sessions[before] == exposures.sessions[first])
    count, positive, _ = (np.where(goes_on, column[before], 0).astype(np.int32) for column in moments(exposures))
    history, behaviour = windows(exposures.sequences, jnp.asarray(first, jnp.int32), model.history_length)
    users = jnp.asarray(exposures.users[first])
    members = jax.tree.leaves(model.networks)[0].shape[0]
    return User(
        user=users,
        member=jax.random.randint(key, users.shape, 0, members),
        observation=Observation(history, behaviour, None if context is None else context[users]),
        shown=jnp.asarray(count),
        positive=jnp.asarray(positive),
        steps=jnp.zeros(len(first), jnp.int32),
    )


@partial(jax.jit, static_argnums=0)
def _run(rules: Rules, params: Params, state: User, stream: Array, key: Array) -> tuple[Array, Array]:
    """Answers ``f32[T, n, S]`` to streams of items ``i32[n, T]``, and ``bool[T, n]`` who was still there."""

    def step(carry: tuple[User, Array], given: tuple[Array, Array]) -> tuple[Any, Any]:
        state, staying = carry
        shown, keys = given
        slate = jnp.where(staying, shown, PAD_ID)[:, None]
        after = jax.vmap(respond, in_axes=(0, 0, 0, None, None))(keys, state, slate, params, rules)
        answers: PyTree = jnp.stack([after.response[one.name.lower()][:, 0] for one in rules.behaviours], axis=-1)
        return (after.state, staying & ~after.terminated), (answers, staying)

    keys = jax.random.split(key, stream.shape[::-1])
    everybody = jnp.ones(len(stream), bool)
    return jax.lax.scan(step, (state, everybody), (stream.T, keys))[1]
