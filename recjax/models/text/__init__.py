"""Language models: architectures, weights, tokens, vectors of texts, and training.

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

from recjax.models.text.answers import PREFERENCE, preference_prompt, score_answers
from recjax.models.text.augment import (
    Synonyms,
    Translator,
    back_translate,
    delete_words,
    easy_augment,
    insert_synonyms,
    replace_synonyms,
    swap_words,
)
from recjax.models.text.config import LanguageConfig, from_hugging_face, to_hugging_face
from recjax.models.text.encoding import encode
from recjax.models.text.evaluation import evaluate_text
from recjax.models.text.generation import generate
from recjax.models.text.model import LanguageModel, initialize, load, save, with_head
from recjax.models.text.named import Pretrained, pretrained
from recjax.models.text.objectives import (
    Gaps,
    Objective,
    Vocabulary,
    answer_nats,
    causal_nats,
    contrastive_nats,
    masked_nats,
    open_gaps,
    vocabulary,
)
from recjax.models.text.pooling import Pooling, pool, pooled
from recjax.models.text.tokens import TextTokenizer, train_wordpiece
from recjax.models.text.tower import TextTower, text_tower, with_language, with_tokens
from recjax.models.text.transformer import (
    KeyValueCache,
    Transformer,
    empty_cache,
    in_embeddings,
    in_layers,
    run_layers,
    slice_layers,
)
from recjax.models.text.tuning import FittedText, TextConfig, TextLoss, fit_text, text_loss
from recjax.models.text.whitening import Whitening, fit_whitening

__all__ = [
    "PREFERENCE",
    "FittedText",
    "Gaps",
    "KeyValueCache",
    "LanguageConfig",
    "LanguageModel",
    "Objective",
    "Pooling",
    "Pretrained",
    "Synonyms",
    "TextConfig",
    "TextLoss",
    "TextTokenizer",
    "TextTower",
    "Transformer",
    "Translator",
    "Vocabulary",
    "Whitening",
    "answer_nats",
    "back_translate",
    "causal_nats",
    "contrastive_nats",
    "delete_words",
    "easy_augment",
    "empty_cache",
    "encode",
    "evaluate_text",
    "fit_text",
    "fit_whitening",
    "from_hugging_face",
    "generate",
    "in_embeddings",
    "in_layers",
    "initialize",
    "insert_synonyms",
    "load",
    "masked_nats",
    "open_gaps",
    "pool",
    "pooled",
    "preference_prompt",
    "pretrained",
    "replace_synonyms",
    "run_layers",
    "save",
    "score_answers",
    "slice_layers",
    "swap_words",
    "text_loss",
    "text_tower",
    "to_hugging_face",
    "train_wordpiece",
    "vocabulary",
    "with_head",
    "with_language",
    "with_tokens",
]
