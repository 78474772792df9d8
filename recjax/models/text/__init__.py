"""Pretrained language models: architectures, weights, tokens, and vectors of texts.

>>> import jax
>>> from recjax.models import text
>>> titles = ["The Third Man", "The Second Woman", "Third Person"]
>>> tokenizer = text.train_wordpiece(titles, vocab_size=60, max_length=16)
>>> shape = {"dim": 8, "num_layers": 2, "num_heads": 2, "feed_forward": 16}
>>> config = text.LanguageConfig("bert", vocab_size=60, max_length=16, **shape)
>>> model = text.initialize(config, jax.random.key(0), tokenizer)
>>> text.encode(model, titles).shape
(3, 8)
"""

from recjax.models.text.config import LanguageConfig, from_hugging_face, to_hugging_face
from recjax.models.text.encoding import encode
from recjax.models.text.generation import generate
from recjax.models.text.model import LanguageModel, initialize, load, save, with_head
from recjax.models.text.named import Pretrained, pretrained
from recjax.models.text.pooling import Pooling, pool
from recjax.models.text.tokens import TextTokenizer, train_wordpiece
from recjax.models.text.transformer import KeyValueCache, Transformer, empty_cache, run_layers, slice_layers

__all__ = [
    "KeyValueCache",
    "LanguageConfig",
    "LanguageModel",
    "Pooling",
    "Pretrained",
    "TextTokenizer",
    "Transformer",
    "empty_cache",
    "encode",
    "from_hugging_face",
    "generate",
    "initialize",
    "load",
    "pool",
    "pretrained",
    "run_layers",
    "save",
    "slice_layers",
    "to_hugging_face",
    "train_wordpiece",
    "with_head",
]
