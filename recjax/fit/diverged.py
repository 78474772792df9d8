"""The error of a training whose numbers are no numbers any more."""

from __future__ import annotations


class Diverged(RuntimeError):
    """A loss, a metric or a reward became infinite or NaN."""
