"""Response models: how a user chooses within a slate, buys, tires and leaves."""

from recjax.envs.choice.response_model import Description, ResponseModel, as_arrays, describe

__all__ = ["Description", "ResponseModel", "as_arrays", "describe"]
