"""What a log tells of who likes what: pairs of users and items, liked or not, and how much each counts.

Logs tell it in one of three ways. Ratings say what was liked and what was not. Impressions say what was shown and
not taken. Clicks, carts and purchases alone say what was taken; what was passed over has to be presumed.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from recjax.data import BEHAVIOUR_WEIGHTS, Behaviour, Dataset, Interactions
from recjax.envs.preference_config import PreferenceConfig

STARS = 5.0
"""Ratings up to here are stars, of which :data:`LIKED_STARS` and more are liked unless told otherwise."""

LIKED_STARS = 4.0

ROUNDS = 20
"""How often an item is drawn anew for a user who took the one that was drawn."""


class Events(NamedTuple):
    """Pairs to learn from: ids ``i32[E]``, ``f32[E]`` whether liked, ``f32[E]`` how much each counts."""

    users: np.ndarray
    items: np.ndarray
    liked: np.ndarray
    weight: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Evidence:
    """What a log tells of who likes what.

    Attributes:
      observed: what the log holds; of ``implicit`` feedback each pair that was taken once, in order of user and item.
      num_users: ``U``.
      num_items: ``N``.
      text: how the log was read, in one sentence or two.
      feedback: one of :data:`FEEDBACK`, but not ``auto``.
      threshold: rating from which an item counts as liked, None without ratings.
      num_left_out: rows that say something of a user or an item that the data set does not know.
      exposure: ``f64[N]`` shares with which items are presumed to be shown, None unless ``implicit``.
      negatives: items to draw as passed over for each that was taken.
    """

    observed: Events
    num_users: int
    num_items: int
    text: str
    feedback: str
    threshold: float | None = None
    num_left_out: int = 0
    exposure: np.ndarray | None = None
    negatives: int = 0

    def to_learn_from(self, rng: np.random.Generator, held_out: np.ndarray | None = None) -> Events:
        """The observed pairs, and items that were passed over where the log does not hold them.

        Args:
          rng: of what was passed over.
          held_out: ``bool[E]`` observed pairs that must not be known: they get weight 0, and may be drawn as passed
            over as if they had not happened yet.
        """
        if held_out is None:
            held_out = np.zeros(len(self.observed.users), bool)
        return self._with_passed_over(self.observed, held_out, ~held_out, rng)

    def to_test_on(self, rng: np.random.Generator, held_out: np.ndarray) -> Events:
        """The held-out pairs, and for ``implicit`` feedback as many others that never happened."""
        rows = Events(*(column[held_out] for column in self.observed))
        nothing, everything = np.zeros(len(rows.users), bool), np.ones(len(held_out), bool)
        return self._with_passed_over(rows, nothing, everything, rng)

    def of_users(self, some: np.ndarray) -> Evidence:
        """The evidence of some users ``i[M]``, ascending, who are numbered anew."""
        number = np.full(self.num_users, -1, np.int32)
        number[some] = np.arange(len(some))
        kept = number[self.observed.users] >= 0
        rows = Events(*(column[kept] for column in self.observed))
        return dataclasses.replace(self, observed=rows._replace(users=number[rows.users]), num_users=len(some))

    def _with_passed_over(
        self, rows: Events, hidden: np.ndarray, taken: np.ndarray, rng: np.random.Generator
    ) -> Events:
        """``rows``, of which the ``hidden`` get weight 0, and items that their users did not take.

        Every user has as much weight of items passed over as of items taken, so that being active is no preference.
        """
        rows = rows._replace(weight=np.where(hidden, np.float32(0), rows.weight))
        if self.exposure is None:
            return rows
        pairs = self._pairs(self.observed.users[taken], self.observed.items[taken])
        users = np.repeat(rows.users, self.negatives)
        items = draw_others(rng, users, pairs, self.exposure)
        weight = np.where(items < 0, 0.0, np.repeat(rows.weight, self.negatives) / self.negatives)
        others = Events(users, np.maximum(items, 0), np.zeros(len(users), np.float32), weight.astype(np.float32))
        return Events(*(np.concatenate(columns) for columns in zip(rows, others, strict=True)))

    def _pairs(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        return users.astype(np.int64) * self.num_items + items


def draw_others(rng: np.random.Generator, users: np.ndarray, pairs: np.ndarray, exposure: np.ndarray) -> np.ndarray:
    """``i32[B]``: for each of ``users`` an item that the user did not take, drawn in proportion to ``exposure``.

    Args:
      rng: of the draw.
      users: ``i[B]``.
      pairs: ``i64[P]`` ``user * N + item`` of what was taken, ascending.
      exposure: ``f64[N]``, at least 0.

    Returns:
      The items; -1 for users of whom :data:`ROUNDS` draws found none that they did not take.
    """
    cumulative = np.cumsum(exposure) / exposure.sum()
    items = np.full(len(users), -1, np.int32)
    open_rows = np.arange(len(users))
    for _ in range(ROUNDS):
        drawn = np.searchsorted(cumulative, rng.random(len(open_rows)), side="right").astype(np.int32)
        drawn = np.minimum(drawn, len(exposure) - 1)  # rounding may leave the total short of 1
        keys = users[open_rows].astype(np.int64) * len(exposure) + drawn
        place = np.searchsorted(pairs, keys)
        found = place < len(pairs)
        found[found] = pairs[place[found]] == keys[found]
        items[open_rows[~found]] = drawn[~found]
        open_rows = open_rows[found]
        if not len(open_rows):
            break
    return items


def read_evidence(
    dataset: Dataset,
    config: PreferenceConfig = PreferenceConfig(),  # noqa: B008 (frozen)
) -> Evidence:
    """What a data set tells of who likes what.

    ``auto`` takes impressions where the log has events of ``IMPRESSION`` (or has propensities, and views beside what
    was taken); else ratings where most events have one and they differ; else what was taken, as implicit feedback.

    Args:
      dataset: the log. A column ``extras["propensity"]`` weighs ratings and impressions inversely.
      config: how to read it.

    Raises:
      ValueError: the log has nothing of the kind, or tells of nothing that is liked, or not liked.
    """
    feedback = _kind(dataset, config) if config.feedback == "auto" else config.feedback
    return {"ratings": _ratings, "implicit": _implicit, "impressions": _impressions}[feedback](dataset, config)


def _kind(dataset: Dataset, config: PreferenceConfig) -> str:
    log = dataset.interactions
    behaviours = set(np.unique(log.behaviour).tolist())
    if len(behaviours) > 1 and (Behaviour.IMPRESSION in behaviours or _has_shown_views(dataset)):
        return "impressions"
    if config.threshold is not None:
        return "ratings"
    if log.rating is not None and np.isfinite(log.rating).mean() >= 0.5 and _half(log.rating) is not None:
        return "ratings"
    return "implicit"


def _has_shown_views(dataset: Dataset) -> bool:
    return "propensity" in dataset.extras and Behaviour.VIEW in dataset.interactions.behaviour


def _known(dataset: Dataset) -> np.ndarray:
    log = dataset.interactions
    return (log.user >= 0) & (log.user < dataset.num_users) & (log.item >= 0) & (log.item < dataset.num_items)


def _evidence(dataset: Dataset, observed: Events, text: str, feedback: str, **more: object) -> Evidence:
    return Evidence(observed, dataset.num_users, dataset.num_items, text, feedback, **more)  # type: ignore[arg-type]


def _ratings(dataset: Dataset, config: PreferenceConfig) -> Evidence:
    log, known = dataset.interactions, _known(dataset)
    rating = np.full(len(log), np.nan, np.float32) if log.rating is None else log.rating
    rated, threshold, liked = rated_and_liked(rating, config.threshold, known)
    weight, weighing = _weights(dataset, rated, config)
    observed = Events(log.user[rated], log.item[rated], liked, weight)
    text = f"A rating of at least {threshold:g} counts as liked ({liked.mean():.1%} do){weighing}."
    left_out = int((~known & ~np.isnan(rating)).sum())
    return _evidence(dataset, observed, text, "ratings", threshold=threshold, num_left_out=left_out)


def rated_and_liked(
    rating: np.ndarray, threshold: float | None, known: np.ndarray
) -> tuple[np.ndarray, float, np.ndarray]:
    """Rows of ``known`` users and items with a rating, the rating from which one likes, ``f32`` whether each is liked.

    Raises:
      ValueError: there are no ratings or infinite ones, or everything or nothing is liked.
    """
    infinite = np.flatnonzero(np.isinf(rating))
    if len(infinite):
        raise ValueError(
            f"The rating in row {infinite[0]} is {rating[infinite[0]]}; ratings must be finite, or NaN for none."
        )
    rated = np.flatnonzero(known & ~np.isnan(rating))
    if not len(rated):
        raise ValueError(
            "The log has no ratings to fit a preference to; with feedback='implicit' it is fitted to what was taken."
        )
    if threshold is None:
        threshold = _half(rating[rated])
    liked = (rating[rated] >= (np.inf if threshold is None else threshold)).astype(np.float32)
    if threshold is None or liked.all() or not liked.any():
        low, high = rating[rated].min(), rating[rated].max()
        what = "All ratings are equal, so nothing tells liked from disliked" if threshold is None else (
            f"threshold={threshold:g} leaves {'nothing disliked' if liked.all() else 'nothing liked'}"
        )  # fmt: skip
        raise ValueError(
            f"{what}: ratings lie in [{low:g}, {high:g}]; choose a threshold inside, or feedback='implicit', which"
            " takes every event as a sign of liking."
        )
    return rated, float(threshold), liked


def _half(rating: np.ndarray) -> float | None:
    """4 of 5 stars; on other scales the rating that comes closest to dividing them in half; None if all are equal."""
    ratings = np.sort(rating[np.isfinite(rating)])
    values = np.unique(ratings)
    if len(values) < 2:
        return None
    if values[0] < LIKED_STARS <= values[-1] <= STARS:
        return LIKED_STARS
    below = np.searchsorted(ratings, values[1:]) / len(ratings)
    return float(values[1:][np.argmin(np.abs(below - 0.5))])


def _impressions(dataset: Dataset, config: PreferenceConfig) -> Evidence:
    log, known = dataset.interactions, _known(dataset)
    shown_only = {int(Behaviour.IMPRESSION)}
    if Behaviour.IMPRESSION not in log.behaviour:
        shown_only.add(int(Behaviour.VIEW))
    rows = np.flatnonzero(known)
    liked = (~np.isin(log.behaviour[rows], list(shown_only))).astype(np.float32)
    if not len(rows) or liked.all() or not liked.any():
        missing = "was shown and not taken" if len(rows) and liked.all() else "was taken"
        raise ValueError(
            f"feedback='impressions' needs events of what was shown (IMPRESSION, or VIEW) and of what was taken; in"
            f" {dataset.name} nothing {missing}."
        )
    weight, weighing = _weights(dataset, rows, config)
    text = f"Of {len(rows):,} items that were shown, {liked.mean():.1%} were taken and count as liked{weighing}."
    observed = Events(log.user[rows], log.item[rows], liked, weight)
    return _evidence(dataset, observed, text, "impressions", num_left_out=int((~known).sum()))


def _implicit(dataset: Dataset, config: PreferenceConfig) -> Evidence:
    log = dataset.interactions
    taken = log.behaviour != Behaviour.IMPRESSION
    known = _known(dataset)
    user, item, weight = strongest_pairs(log, np.flatnonzero(taken & known), dataset.num_items)
    if not len(user):
        raise ValueError(f"{dataset.name} has no event of a known user and item, so no preference can be fitted to it.")
    active = np.count_nonzero(np.bincount(user))
    if len(user) == active * dataset.num_items:
        raise ValueError(
            f"{dataset.name}: every user took every one of the {dataset.num_items} items, so nothing was passed over."
        )
    exposure = np.bincount(item, minlength=dataset.num_items).astype(np.float64) ** config.exposure
    names = ", ".join(Behaviour(code).name.lower() for code in np.unique(log.behaviour[taken]))
    text = (
        f"What a user took ({names}) counts as liked: {len(user):,} pairs of users and items. The log does not say what"
        f" was passed over, so for each pair {config.negatives} items that the user did not take are drawn in"
        f" proportion to popularity to the power {config.exposure:g}, as presumably shown, and count as not liked,"
        " together with the weight of the pair. A logit of 0 is an item that is taken as often as it is presumed to be"
        " shown."
    )
    return _evidence(
        dataset, Events(user, item, np.ones(len(user), np.float32), weight), text, "implicit",
        num_left_out=int((taken & ~known).sum()), exposure=exposure, negatives=config.negatives,
    )  # fmt: skip


def strongest_pairs(log: Interactions, rows: np.ndarray, num_items: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The different pairs of some rows, in order of user and item, with the weight of the strongest behaviour of each.

    Returns:
      Users ``i32[P]``, items ``i32[P]``, and ``f32[P]`` weights of mean 1.
    """
    levels = np.unique(list(BEHAVIOUR_WEIGHTS.values()))
    level_of = np.zeros(len(Behaviour), np.int64)
    for behaviour, weight in BEHAVIOUR_WEIGHTS.items():
        level_of[behaviour] = np.searchsorted(levels, weight)
    pair = log.user[rows].astype(np.int64) * num_items + log.item[rows]
    key = np.sort(pair * len(levels) + level_of[log.behaviour[rows]])
    pair = key // len(levels)
    last = np.append(pair[1:] != pair[:-1], True) if len(pair) else np.zeros(0, bool)
    user, item = np.divmod(pair[last], num_items)
    weight = levels[key[last] % len(levels)]
    return user.astype(np.int32), item.astype(np.int32), (weight / weight.mean()).astype(np.float32)


def _weights(dataset: Dataset, rows: np.ndarray, config: PreferenceConfig) -> tuple[np.ndarray, str]:
    """``f32[E]`` weights of rows, and what to say of them: inverse propensities where the log has propensities."""
    if "propensity" not in dataset.extras:
        return np.ones(len(rows), np.float32), ""
    weight = inverse_propensities(np.asarray(dataset.extras["propensity"], np.float64)[rows], config.max_weight)
    return weight, f", weighed by inverse propensities (cut at {config.max_weight:g} times their mean)"


def inverse_propensities(propensity: np.ndarray, max_weight: float) -> np.ndarray:
    """``f32[E]`` weights ``1 / propensity``, cut at ``max_weight`` times their mean.

    They add up to the effective number of events, ``(sum w)² / sum w²``, so that a posterior is no surer than they are.

    Raises:
      ValueError: a propensity is not in (0, 1].
    """
    bad = np.flatnonzero(~((propensity > 0) & (propensity <= 1)))
    if len(bad):
        raise ValueError(f"The propensity in row {bad[0]} is {propensity[bad[0]]}; propensities lie in (0, 1].")
    weight = 1.0 / propensity
    weight = np.minimum(weight, max_weight * weight.mean())
    return (weight * weight.sum() / np.square(weight).sum()).astype(np.float32)
