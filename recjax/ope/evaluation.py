"""From a log to a table: what each of several policies would earn, by each of several estimators."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl

from recjax.data.frames import Frame, as_lazy
from recjax.eval import Interval
from recjax.ope.bandits import direct, dr, dr_shrinkage, ips, sndr, snips, switch_dr
from recjax.ope.columns import LogColumns
from recjax.ope.feedback import Feedback, feedback
from recjax.ope.intervals import biased_interval, bootstrap_intervals, by_unit
from recjax.ope.logs import Shown, column, numbers
from recjax.ope.policies import Policy, of_rows
from recjax.ope.reward_model import ItemRewards, fit_item_rewards
from recjax.ope.selection import Estimator, tuned
from recjax.ope.support import Support, support
from recjax.types import Array

ESTIMATORS: Mapping[str, Estimator] = {
    "ips": ips,
    "snips": snips,
    "direct": direct,
    "dr": dr,
    "sndr": sndr,
    "switch_dr": tuned(switch_dr),
    "dr_shrinkage": tuned(dr_shrinkage),
}
"""What :func:`evaluate` knows by name; the last two choose their setting by :func:`slope`."""

WITHOUT_MODEL = frozenset({"ips", "snips"})
"""Those that read no predictions."""

BIASED = frozenset({"direct", "switch_dr", "dr_shrinkage"})
"""Those that take the interval of ``dr``, drawn out to their own value (:func:`biased_interval`)."""

LOGGED = "logged"
"""The row of the policy that was logged: the mean reward, with which all others are compared."""

DIAGNOSTICS = ("effective", "mean_weight", "overlap", "largest_weight", "pareto_k")
"""Of :class:`Support`, in the columns of a table."""


def evaluate(
    log: Frame,
    policies: Mapping[str, Policy],
    columns: LogColumns = LogColumns(),  # noqa: B008 (frozen)
    *,
    estimators: Sequence[str] = tuple(ESTIMATORS),
    level: float = 0.95,
    seed: int = 0,
) -> pl.DataFrame:
    """What policies would earn a row, as far as a log tells.

    Args:
      log: one row for each shown item: a polars, pandas or pyarrow table, or a mapping of columns.
      policies: by name.
      columns: which columns hold what.
      estimators: names of :data:`ESTIMATORS`; those that need a model are left out for a policy without predictions.
      level: confidence level in (0, 1) of bootstrap intervals.
      seed: of the bootstrap and of cross-fitting.

    Returns:
      One row for each policy and estimator, first the policy that was logged. ``value``, ``low`` and ``high`` are the
      estimate and its interval; ``gain``, ``gain_low`` and ``gain_high`` the difference to the logged policy;
      ``effective``, ``mean_weight``, ``overlap``, ``largest_weight`` and ``pareto_k`` are those of :class:`Support`.
      Estimators with a bias (``direct``, ``switch_dr``, ``dr_shrinkage``) have the interval of ``dr``, drawn out to
      their own value. Where the log has no support for a policy, ``problem`` says why and its numbers are null.

    Raises:
      ValueError: a column is missing or has what it must not have, or a name is unknown.

    >>> from recjax.ope import Probabilities
    >>> log = {"reward": [1.0, 0.0] * 50, "propensity": [0.5] * 100, "new": [0.8, 0.2] * 50}
    >>> table = evaluate(log, {"new": Probabilities("new")}, estimators=["snips"])
    >>> [(policy, round(value, 3)) for policy, value in table.select("policy", "value").rows()]
    [('logged', 0.5), ('new', 0.8)]
    """
    if unknown := [name for name in estimators if name not in ESTIMATORS]:
        raise ValueError(f"There is no estimator {unknown[0]!r}; there are {', '.join(ESTIMATORS)}.")
    if LOGGED in policies:
        raise ValueError(f"A policy is named {LOGGED!r}, which is the row of the policy that was logged; rename it.")
    rows = _Rows.of(as_lazy(log).collect(), columns, seed)
    found = [rows.logged(level, seed)]
    for name, policy in policies.items():
        found += rows.table(name, rows.feedback(policy), estimators, level, seed)
    return pl.DataFrame(found, infer_schema_length=None)


@dataclasses.dataclass(frozen=True)
class _Rows:
    """A log as arrays.

    Attributes:
      log: the log.
      columns: which columns hold what.
      shown: items and slots, None where the log tells none.
      unit: ``i32[n]`` the user of each row, None where all rows are independent.
      model: of rewards, None without one.
    """

    log: pl.DataFrame
    columns: LogColumns
    shown: Shown | None
    unit: np.ndarray | None
    model: ItemRewards | None

    @classmethod
    def of(cls, log: pl.DataFrame, columns: LogColumns, seed: int) -> _Rows:
        if not len(log):
            raise ValueError("The log has no rows.")
        shown = None if columns.item is None else Shown.of(log, columns.item, columns.position)
        unit = None
        if columns.user is not None:
            unit = np.unique(column(log, columns.user).cast(pl.String).to_numpy(), return_inverse=True)[1]
        model = None
        if shown is not None and columns.predicted is None:
            model = fit_item_rewards(numbers(log, columns.reward), shown.item, shown.position, unit, seed=seed)
        return cls(log, columns, shown, unit, model)

    def feedback(self, policy: Policy) -> Feedback:
        """What the log tells of a policy."""
        of = of_rows(policy, self.log, self.shown, self.model)
        predicted = self.predicted() if of.expected is not None else None
        reward, propensity = (numbers(self.log, name) for name in (self.columns.reward, self.columns.propensity))
        return feedback(reward, propensity, of.probability, predicted=predicted, expected=of.expected)

    def predicted(self) -> np.ndarray:
        """The predicted reward of each row."""
        if self.model is not None:
            return self.model.predicted()
        if self.columns.predicted is None:
            raise ValueError("Expected rewards need predicted ones; name the column of predictions of the log.")
        return numbers(self.log, self.columns.predicted)

    def logged(self, level: float, seed: int) -> dict[str, Any]:
        """The row of the policy that was logged."""
        reward = numbers(self.log, self.columns.reward).astype(np.float32)
        (value,) = self.intervals(reward[None], level, seed)
        return _row(LOGGED, "mean", support(np.ones(len(reward))), value, None)

    def table(
        self, name: str, of: Feedback, estimators: Sequence[str], level: float, seed: int
    ) -> list[dict[str, Any]]:
        """The rows of a policy."""
        covered = support(of.weight)
        names = [each for each in estimators if each in WITHOUT_MODEL or of.expected is not None]
        if not names:
            raise ValueError(
                f"{', '.join(estimators)} need predicted rewards, and policy {name!r} has none: give a policy of items"
                f" and their column, columns of predictions, or the estimators {' and '.join(sorted(WITHOUT_MODEL))}."
            )
        if covered.problem:
            return [_row(name, each, covered, None, None) for each in names]
        computed = (*names, *({"dr"} - set(names) if BIASED & set(names) else ()))
        values = np.asarray(_contributions(of, computed))
        both = [self.intervals(each, level, seed) for each in (values, values - np.asarray(of.reward))]
        value, gain = (_of_names(computed, each) for each in both)
        return [_row(name, each, covered, value[each], gain[each]) for each in names]

    def intervals(self, contributions: np.ndarray, level: float, seed: int) -> list[Interval]:
        """Those of ``f32[m, n]``."""
        units = contributions if self.unit is None else by_unit(contributions, self.unit)
        return bootstrap_intervals(units, level=level, seed=seed)


def _of_names(names: Sequence[str], intervals: Sequence[Interval]) -> dict[str, Interval]:
    """The interval of each estimator by name."""
    found = dict(zip(names, intervals, strict=True))
    return {name: biased_interval(each.mean, found["dr"]) if name in BIASED else each for name, each in found.items()}


@functools.partial(jax.jit, static_argnames="names")
def _contributions(of: Feedback, names: tuple[str, ...]) -> Array:
    """``f32[m, n]`` of ``m`` estimators, compiled together."""
    return jnp.stack([ESTIMATORS[name](of) for name in names])


def _row(policy: str, estimator: str, of: Support, value: Interval | None, gain: Interval | None) -> dict[str, Any]:
    """A row of the table."""
    row: dict[str, Any] = {"policy": policy, "estimator": estimator}
    for names, each in (("value", "low", "high"), value), (("gain", "gain_low", "gain_high"), gain):
        row |= dict.fromkeys(names) if each is None else dict(zip(names, (each.mean, each.low, each.high), strict=True))
    known = {name: getattr(of, name) for name in DIAGNOSTICS}
    return row | {name: None if math.isnan(n) else n for name, n in known.items()} | {"problem": of.problem}
