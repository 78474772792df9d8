"""Models of the order in which users act, trained on the next item."""

from recjax.models.sequence.augment import (
    Augmentation,
    augmentations,
    crop,
    insert,
    mask,
    reorder,
    substitute,
    two_views,
)
from recjax.models.sequence.cloze import masked_positions
from recjax.models.sequence.contrastive import attribute_loss
from recjax.models.sequence.next_item import WHOLE_CATALOGUE
from recjax.models.sequence.pseudo import pseudo_labels
from recjax.models.sequence.two_tower import TwoTower, TwoTowerConfig, fit_recommendation
from recjax.models.sequence.whole import SequenceConfig, fit_sequences

__all__ = [
    "WHOLE_CATALOGUE",
    "Augmentation",
    "SequenceConfig",
    "TwoTower",
    "TwoTowerConfig",
    "attribute_loss",
    "augmentations",
    "crop",
    "fit_recommendation",
    "fit_sequences",
    "insert",
    "mask",
    "masked_positions",
    "pseudo_labels",
    "reorder",
    "substitute",
    "two_views",
]
