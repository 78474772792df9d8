"""The named data sets, one module for each family; importing this package registers them."""

from recjax.data.sets import behaviour_logs, coat, movielens, movietweetings, openbandit, tafeng

__all__ = ["behaviour_logs", "coat", "movielens", "movietweetings", "openbandit", "tafeng"]
