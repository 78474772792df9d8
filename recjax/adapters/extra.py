"""The package of the optional extra ``gymnasium``."""

from __future__ import annotations

import importlib
from types import ModuleType


def require_gymnasium() -> ModuleType:
    """Imports Gymnasium.

    Raises:
      ImportError: it is not installed; says how to install it.
    """
    try:
        return importlib.import_module("gymnasium")
    except ImportError as error:
        raise ImportError(
            "This adapter needs the package 'gymnasium', which is in an extra: pip install 'recjax[gymnasium]'."
        ) from error
