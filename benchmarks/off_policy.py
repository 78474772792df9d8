"""Estimates of one policy with intervals and support from a long log, beside the same in NumPy.

Run:    python benchmarks/off_policy.py            (half a minute on two CPU cores)
Smoke:  python benchmarks/off_policy.py --smoke
Prints: one table. All contenders read the same float32 columns: rewards, propensities, the
        policy's probabilities and predicted rewards. NumPy draws whole logs again, ten times as
        few as recjax, whose bootstrap draws blocks of rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import numpy as np
import tyro
from _measure import Options, measure, megabytes, milliseconds, show

from recjax import ope

NAMES = tuple(ope.ESTIMATORS)


@dataclasses.dataclass(frozen=True)
class Config(Options):
    rows: int = 600_000
    """Of the log."""
    resamples: int = 1000
    """Of the bootstrap."""
    seconds: float = 5.0
    """Time spent on each measurement after warming up."""


def columns(rows: int) -> tuple[np.ndarray, ...]:
    """Rewards, propensities, probabilities, predicted and expected rewards."""
    rng = np.random.default_rng(0)
    b, pi, q, v = rng.uniform(0.05, 0.5, (4, rows)).astype(np.float32)
    return (rng.uniform(size=rows) < q).astype(np.float32), b, pi, q, v


def recjax_estimates(rows: int, resamples: int) -> tuple[Callable, None]:
    reward, b, pi, q, v = columns(rows)

    def work() -> list:
        of = ope.feedback(reward, b, pi, predicted=q, expected=v)
        found = np.stack([np.asarray(jax.jit(ope.ESTIMATORS[name])(of)) for name in NAMES])
        return [ope.support(of.weight), *ope.bootstrap_intervals(found, resamples=resamples)]

    return work, None


def recjax_without_intervals(rows: int, resamples: int) -> tuple[Callable, None]:
    del resamples
    reward, b, pi, q, v = columns(rows)

    def work() -> list:
        of = ope.feedback(reward, b, pi, predicted=q, expected=v)
        return [float(jax.jit(ope.ESTIMATORS[name])(of).mean()) for name in NAMES]

    return work, None


def numpy_bootstrap(rows: int, resamples: int) -> tuple[Callable, None]:
    """IPS, SNIPS and DR alone."""
    reward, b, pi, q, v = columns(rows)

    def estimates(drawn: np.ndarray) -> list[float]:
        w, r = (pi / b)[drawn], reward[drawn]
        return [(w * r).mean(), (w * r).sum() / w.sum(), (v[drawn] + w * (r - q[drawn])).mean()]

    def work() -> np.ndarray:
        rng = np.random.default_rng(1)
        found = [estimates(rng.integers(0, rows, rows)) for _ in range(resamples // 10)]
        return np.quantile(found, [0.025, 0.975], axis=0)

    return work, None


CONTENDERS = {
    f"recjax, {len(NAMES)} estimators, intervals, support": recjax_estimates,
    f"recjax, {len(NAMES)} estimators": recjax_without_intervals,
    "NumPy, 3 estimators, a tenth of the resamples": numpy_bootstrap,
}


def main(config: Config) -> None:
    if config.smoke:
        config = dataclasses.replace(config, rows=2_000, resamples=20, seconds=0.0)
    rows = []
    for name, contender in CONTENDERS.items():
        found = measure(contender, config.seconds, alone=not config.smoke, rows=config.rows, resamples=config.resamples)
        rows.append([name, milliseconds(found["seconds"]), megabytes(found["peak"])])
    title = f"A policy on {config.rows:,} rows, {config.resamples:,} resamples"
    show(config, "off_policy", title, ["", "ms", "peak MB"], rows, ["jax", "numpy"])


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
