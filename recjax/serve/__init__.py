"""Trained policies put to use: artifacts that recommend without the code, the log or the time that training took.

>>> from recjax import serve
>>> serve.FORMAT
1

``recjax loop`` leaves an artifact in every run; :func:`load` opens one, and
:mod:`recjax.serve.export` makes one of any agent that rates items. Opening one imports
nothing but JAX and the catalogue operations.
"""

from recjax.serve.artifact import FORMAT, Artifact, load
from recjax.serve.recommendations import Recommendations

__all__ = ["FORMAT", "Artifact", "Recommendations", "load"]
