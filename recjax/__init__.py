"""recjax: the whole feedback loop of a recommender as compiled JAX.

Represent users and items, recommend, let the user respond, remember, learn, represent
again. Each part is a subpackage and is imported by name, so ``import recjax`` alone is
cheap, starts no device and changes no global state:

>>> import recjax
>>> from recjax import agents, envs, loop, nn

``recjax.enable_compilation_cache()`` keeps compiled programs, so that the next process starts in seconds.
"""

from importlib import metadata

from recjax.cache import enable_compilation_cache

__version__ = metadata.version("recjax")
__all__ = ["__version__", "enable_compilation_cache"]
