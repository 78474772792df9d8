"""How a log is read when a preference is fitted to it: options, without the code that they are for."""

from __future__ import annotations

import dataclasses

FEEDBACK = ("auto", "ratings", "implicit", "impressions")


@dataclasses.dataclass(frozen=True)
class PreferenceConfig:
    """How a log is read when a preference is fitted to it."""

    feedback: str = "auto"
    """How the log tells what is liked: ratings, implicit (what was taken), impressions (what was shown and taken)."""
    threshold: float | None = None
    """Rating from which an item is liked (default: 4 of 5 stars; on other scales what divides the ratings in half)."""
    exposure: float = 0.5
    """Implicit: items are presumed to be shown in proportion to their popularity to this power."""
    negatives: int = 3
    """Implicit: items drawn as passed over for each that was taken."""
    max_weight: float = 20.0
    """Inverse propensities, where the log has any, are cut at this many times their mean."""

    def __post_init__(self) -> None:
        if self.feedback not in FEEDBACK:
            raise ValueError(
                f"PreferenceConfig.feedback is {self.feedback!r}; it must be one of {', '.join(FEEDBACK)}."
            )
        if not 0 <= self.exposure <= 1 or self.negatives < 1 or not self.max_weight >= 1:
            raise ValueError(
                f"PreferenceConfig got exposure={self.exposure}, negatives={self.negatives},"
                f" max_weight={self.max_weight}; it needs exposure in [0, 1], negatives >= 1 and max_weight >= 1."
            )
