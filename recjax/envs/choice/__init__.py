"""Response models: how a user chooses within a slate, buys, tires and leaves."""

from recjax.envs.choice.declared import Declared, Description, as_arrays, describe

__all__ = ["Declared", "Description", "as_arrays", "describe"]
