"""Models of the order in which users act, trained on the next item."""

from recjax.models.sequence.next_item import WHOLE_CATALOGUE
from recjax.models.sequence.two_tower import TwoTower, TwoTowerConfig, fit_recommendation
from recjax.models.sequence.whole import SequenceConfig, fit_sequences

__all__ = [
    "WHOLE_CATALOGUE",
    "SequenceConfig",
    "TwoTower",
    "TwoTowerConfig",
    "fit_recommendation",
    "fit_sequences",
]
