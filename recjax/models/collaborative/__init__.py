"""Collaborative filtering: who had what, and nothing else.

Every model is fitted by ``(interactions, num_items, **options)`` and scores users by
their history alone, so users who were not in the log are served like any other.

>>> import jax.numpy as jnp
>>> from recjax.data import Interactions
>>> log = Interactions(user=[0, 0, 1, 1, 2], item=[0, 1, 0, 1, 2])
>>> model = collaborative_models.make("item_knn", log, num_items=3, shrinkage=0)
>>> model.scores(jnp.array([[0, -1]])).round(3).tolist()
[[0.0, 1.0, 0.0]]
"""

from recjax.models.collaborative.als import ALS, als
from recjax.models.collaborative.base import (
    CollaborativeModel,
    UserItemMatrix,
    collaborative_models,
    multi_hot,
    user_item_matrix,
)
from recjax.models.collaborative.bpr import BPR, bpr
from recjax.models.collaborative.ease import EASE, ease
from recjax.models.collaborative.item_knn import ItemKNN, item_knn
from recjax.models.collaborative.popularity import Popularity, popularity
from recjax.models.collaborative.user_knn import UserKNN, user_knn

__all__ = [
    "ALS",
    "BPR",
    "EASE",
    "CollaborativeModel",
    "ItemKNN",
    "Popularity",
    "UserItemMatrix",
    "UserKNN",
    "als",
    "bpr",
    "collaborative_models",
    "ease",
    "item_knn",
    "multi_hot",
    "popularity",
    "user_item_matrix",
    "user_knn",
]
