"""Models of the order in which users act, trained on the next item."""

from typing import TYPE_CHECKING

from recjax._lazy import lazy

if TYPE_CHECKING:
    from recjax.models.sequence.augment import (
        Augmentation,
        NamedAugmentation,
        augmentations,
        crop,
        insert,
        mask,
        reorder,
        substitute,
        two_views,
    )
    from recjax.models.sequence.auxiliary import Auxiliary
    from recjax.models.sequence.cloze import masked_positions
    from recjax.models.sequence.config import FULL_SOFTMAX_LIMIT, NextItemConfig, TwoTowerConfig
    from recjax.models.sequence.contrastive import attribute_loss
    from recjax.models.sequence.pseudo import pseudo_labels
    from recjax.models.sequence.self_supervised_q import RewardOfEvents, behaviour_rewards, self_supervised_q
    from recjax.models.sequence.sequences import SequenceConfig, fit_sequences
    from recjax.models.sequence.trainer import Start
    from recjax.models.sequence.two_tower import TwoTower, fit_recommendation

__all__ = [
    "FULL_SOFTMAX_LIMIT",
    "Augmentation",
    "Auxiliary",
    "NamedAugmentation",
    "NextItemConfig",
    "RewardOfEvents",
    "SequenceConfig",
    "Start",
    "TwoTower",
    "TwoTowerConfig",
    "attribute_loss",
    "augmentations",
    "behaviour_rewards",
    "crop",
    "fit_recommendation",
    "fit_sequences",
    "insert",
    "mask",
    "masked_positions",
    "pseudo_labels",
    "reorder",
    "self_supervised_q",
    "substitute",
    "two_views",
]

lazy(__name__)
