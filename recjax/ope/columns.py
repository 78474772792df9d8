"""Which columns of a log of shown items hold what; imports nothing, so that options can be shown at once."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class LogColumns:
    """Which columns of a log of shown items hold what."""

    reward: str = "reward"
    """What was earned, such as clicks."""
    propensity: str = "propensity"
    """The probability with which the logging policy showed the item of the row, in its context and position."""
    item: str | None = None
    """What was shown; policies that are probabilities of items need it."""
    position: str | None = None
    """The slot that it was shown in, if probabilities differ by slot."""
    user: str | None = None
    """Users, whose rows depend on each other; without it all rows are independent."""
    predicted: str | None = None
    """A model's prediction of the reward; without it, and with an item, the mean reward of the item."""
