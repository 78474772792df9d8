"""Whether two samples can be told apart: the maximum mean discrepancy and its permutation test.

References:
  Gretton et al., "A kernel two-sample test", Journal of Machine Learning Research 13, 2012.
"""

from __future__ import annotations

import dataclasses

import numpy as np

AT_ONCE = 64
"""Permutations that are computed together."""


@dataclasses.dataclass(frozen=True)
class TwoSamples:
    """What a two-sample test found.

    Attributes:
      discrepancy: the squared maximum mean discrepancy, at least 0; 0 where the samples are the same.
      p_value: share of permutations (this one among them) with at least that discrepancy, in (0, 1]. If both samples
        are of one distribution, it lies below any ``a`` with probability at most ``a``.
      sizes: how many there are in each sample.
    """

    discrepancy: float
    p_value: float
    sizes: tuple[int, int]


def two_sample_test(first: np.ndarray, second: np.ndarray, *, permutations: int = 999, seed: int = 0) -> TwoSamples:
    """Tests whether two samples are of one distribution.

    Columns are divided by their standard deviation over both samples. The kernel is Gaussian, its width the median
    distance between different points.

    Args:
      first: ``f[n, F]`` finite numbers, one row a member of the sample; rows are independent of each other.
      second: ``f[m, F]``.
      permutations: how many are drawn.
      seed: of the draw.

    Raises:
      ValueError: shapes do not fit, a sample has fewer than two rows, or a number is not finite.

    >>> rng = np.random.default_rng(0)
    >>> found = two_sample_test(rng.normal(size=(50, 2)), rng.normal(size=(60, 2)) + 1.0)
    >>> found.p_value, found.sizes
    (0.001, (50, 60))
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1] or min(len(first), len(second)) < 2:
        raise ValueError(
            f"The samples have shapes {first.shape} and {second.shape}; each needs two rows or more of as many numbers."
        )
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("The samples hold numbers that are infinite or NaN; leave out what has no value.")
    if permutations < 1:
        raise ValueError(f"permutations is {permutations}; a p-value takes at least 1, and hundreds to be exact.")
    kernel = _kernel(np.concatenate([first, second]))
    signs = np.concatenate([np.full(len(first), 1 / len(first)), np.full(len(second), -1 / len(second))])
    found = float(signs @ kernel @ signs)
    rng = np.random.default_rng(seed)
    reached = 0
    for start in range(0, permutations, AT_ONCE):
        drawn = rng.permuted(np.tile(signs, (min(AT_ONCE, permutations - start), 1)), axis=1)
        # What is equal but for rounding counts as reached.
        reached += int((np.sum(drawn @ kernel * drawn, axis=1) >= found - 1e-12).sum())
    return TwoSamples(max(found, 0.0), (1 + reached) / (1 + permutations), (len(first), len(second)))


def _kernel(points: np.ndarray) -> np.ndarray:
    deviation = points.std(axis=0)
    scaled = points / np.where(deviation > 0, deviation, 1.0)
    norms = np.square(scaled).sum(axis=1)
    squares = np.maximum(norms[:, None] + norms[None] - 2 * scaled @ scaled.T, 0.0)
    apart = squares[squares > 1e-12]
    return np.exp(-squares / np.median(apart)) if len(apart) else np.ones_like(squares)
