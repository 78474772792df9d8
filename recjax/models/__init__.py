"""What is trained on logs: popularity, neighbours, matrix factorisation, two towers.

They are in :mod:`recjax.models.collaborative`, :mod:`recjax.models.sequence` and
:mod:`recjax.models.semantic_ids`; the usual ones can be imported from here as well.

Every model is a pytree with ``scores(history) -> f32[B, N]``, so it can be passed through
``jax.jit``, saved as a checkpoint, and ranked by :func:`recommend`.

>>> import numpy as np
>>> from recjax import models
>>> from recjax.data import Interactions
>>> log = Interactions(user=[0, 0, 0, 1, 1, 2, 2], item=[0, 1, 2, 0, 1, 2, 3])
>>> model = models.collaborative_models.make("item_knn", log, num_items=4)
>>> scores, ids = models.recommend(model, np.array([[0, 1], [3, -1]]), k=1)
>>> ids.tolist()
[[2], [2]]
"""

from typing import TYPE_CHECKING

from recjax._lazy import lazy

if TYPE_CHECKING:
    from recjax.models.collaborative import (
        ALS,
        CollaborativeModel,
        ItemKNN,
        Popularity,
        UserKNN,
        als,
        collaborative_models,
        item_knn,
        popularity,
        user_knn,
    )
    from recjax.models.recommend import recommend
    from recjax.models.sequence import TwoTower, TwoTowerConfig, fit_recommendation

__all__ = [
    "ALS",
    "CollaborativeModel",
    "ItemKNN",
    "Popularity",
    "TwoTower",
    "TwoTowerConfig",
    "UserKNN",
    "als",
    "collaborative_models",
    "fit_recommendation",
    "item_knn",
    "popularity",
    "recommend",
    "user_knn",
]

lazy(__name__)
