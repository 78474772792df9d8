"""Packages of the optional extra ``text``."""

from __future__ import annotations

import importlib
from types import ModuleType


def require(package: str) -> ModuleType:
    """Imports a package of the extra.

    Raises:
      ImportError: it is not installed; says how to install it.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ImportError(
            f"Language models need the package {package!r}, which is in an extra: pip install 'recjax[text]'."
        ) from error
