"""Pretrained language models: architectures, weights, tokenisers, text embeddings, and training.

>>> import jax
>>> from recjax import language
>>> titles = ["The Third Man", "The Second Woman", "Third Person"]
>>> tokenizer = language.train_wordpiece(titles, vocab_size=60, max_length=16)
>>> shape = {"dim": 8, "num_layers": 2, "num_heads": 2, "feed_forward": 16}
>>> config = language.LanguageConfig("bert", vocab_size=60, max_length=16, **shape)
>>> model = language.initialize(config, jax.random.key(0), tokenizer)
>>> language.encode(model, titles).shape
(3, 8)
"""

from recjax.language.answers import PREFERENCE, preference_prompt, score_answers
from recjax.language.augment import (
    Synonyms,
    Translator,
    back_translate,
    delete_words,
    easy_augment,
    insert_synonyms,
    replace_synonyms,
    swap_words,
)
from recjax.language.config import LanguageConfig, from_hugging_face, to_hugging_face
from recjax.language.encoding import encode
from recjax.language.evaluation import TextEvaluation, evaluate_text
from recjax.language.generation import generate
from recjax.language.model import LanguageModel, initialize, load, save, with_head
from recjax.language.named import Pretrained, pretrained
from recjax.language.objectives import (
    MaskedTokens,
    Objective,
    Vocabulary,
    answer_lm_loss,
    causal_lm_loss,
    contrastive_loss,
    mask_tokens,
    masked_lm_loss,
    vocabulary,
)
from recjax.language.pooling import Pooling, pool, pooled
from recjax.language.tokens import TextTokenizer, train_wordpiece
from recjax.language.tower import TextTower, text_tower, with_language, with_tokens
from recjax.language.transformer import (
    KeyValueCache,
    Transformer,
    empty_cache,
    in_embeddings,
    in_layers,
    run_layers,
    slice_layers,
)
from recjax.language.tuning import FittedText, TextConfig, TextLoss, fit_text, text_loss
from recjax.language.whitening import Whitening, fit_whitening

__all__ = [
    "PREFERENCE",
    "FittedText",
    "KeyValueCache",
    "LanguageConfig",
    "LanguageModel",
    "MaskedTokens",
    "Objective",
    "Pooling",
    "Pretrained",
    "Synonyms",
    "TextConfig",
    "TextEvaluation",
    "TextLoss",
    "TextTokenizer",
    "TextTower",
    "Transformer",
    "Translator",
    "Vocabulary",
    "Whitening",
    "answer_lm_loss",
    "back_translate",
    "causal_lm_loss",
    "contrastive_loss",
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
    "mask_tokens",
    "masked_lm_loss",
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
