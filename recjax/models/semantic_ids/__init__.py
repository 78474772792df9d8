"""Semantic ids: items as short sequences of codes, and retrieval by generating them.

Item vectors become codes by residual quantisation (:func:`residual_kmeans`, :func:`fit_rq_vae`), codes
become ids that no two items share (:func:`with_extra_level`, :func:`with_free_codes`), and a
:class:`GenerativeRetriever`, trained by :func:`recjax.models.sequence.fit_sequences`, says the codes of
what comes next. :func:`beam_search` finds the most probable ids among those that exist.

>>> import jax
>>> angle = jax.numpy.arange(12) * 2 * jax.numpy.pi / 12
>>> vectors = jax.numpy.stack([jax.numpy.cos(angle), jax.numpy.sin(angle)], axis=-1)
>>> ids = with_extra_level(residual_kmeans(vectors, levels=2, codebook_size=4, key=jax.random.key(0)), size=4)
>>> codebook_use(ids).colliding
0.0
"""

from recjax.models.semantic_ids.autoencoder import Autoencoder
from recjax.models.semantic_ids.beam import beam_search, item_scorer, log_probabilities
from recjax.models.semantic_ids.collisions import append, with_extra_level, with_free_codes
from recjax.models.semantic_ids.ids import CodebookUse, SemanticIds, codebook_use
from recjax.models.semantic_ids.kmeans import residual_kmeans
from recjax.models.semantic_ids.prefix_tree import PrefixTree, prefix_tree
from recjax.models.semantic_ids.retriever import GenerativeRetriever
from recjax.models.semantic_ids.rq_vae import RQVAEConfig, fit_rq_vae

__all__ = [
    "Autoencoder",
    "CodebookUse",
    "GenerativeRetriever",
    "PrefixTree",
    "RQVAEConfig",
    "SemanticIds",
    "append",
    "beam_search",
    "codebook_use",
    "fit_rq_vae",
    "item_scorer",
    "log_probabilities",
    "prefix_tree",
    "residual_kmeans",
    "with_extra_level",
    "with_free_codes",
]
