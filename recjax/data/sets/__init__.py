"""The named data sets, one module for each family; importing this package registers them."""

from recjax.data.sets import known

__all__ = ["known"]
