"""Losses of language models: masked and causal language modelling, answers to prompts, contrastive learning.

Each is a sum of negative log-likelihoods for each text of a batch, in nats. Texts are ``ids i32[B, T]`` and
``mask bool[B, T]``, padded on the right.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax

from recjax.language.model import LanguageModel
from recjax.language.pooling import Pooling, pooled
from recjax.language.transformer import Transformer
from recjax.losses import info_nce
from recjax.types import Array, PyTree

Objective = Literal["masked", "causal", "simcse", "pairs", "answers"]
"""Masked and causal language modelling; contrastive learning of two views of a text that differ by dropout, or of the
two texts of a pair; answers to prompts, of which the answer alone has a loss."""


class Vocabulary(NamedTuple):
    """The tokens that masked language modelling may mask.

    Attributes:
      mask_id: ``i32[]`` the mask token.
      ordinary: ``i32[n]`` tokens that stand for text: they alone are masked, and random replacements are of them.
      is_ordinary: ``bool[V]`` the same by token.
    """

    mask_id: Array
    ordinary: Array
    is_ordinary: Array


class MaskedTokens(NamedTuple):
    """A text whose tokens are masked in part.

    Attributes:
      ids: ``i32[T]`` the input, with masked tokens replaced.
      positions: ``i32[K]`` of the masked tokens; all different.
      targets: ``i32[K]`` the tokens before they were masked.
      valid: ``bool[K]`` which of the positions are masked.
    """

    ids: Array
    positions: Array
    targets: Array
    valid: Array


def vocabulary(model: LanguageModel) -> Vocabulary:
    """The tokens of a model that may be masked.

    Raises:
      ValueError: its tokenizer has no mask token.
    """
    tokenizer = model.need_tokenizer()
    if tokenizer.mask_id is None:
        raise ValueError(
            "The tokenizer has neither [MASK] nor <mask>; use another objective than 'masked' or another tokenizer."
        )
    is_ordinary = np.zeros(model.config.vocab_size, bool)
    is_ordinary[list(tokenizer.backend.get_vocab().values())] = True
    is_ordinary[list(tokenizer.special_ids)] = False
    ordinary = jnp.asarray(np.flatnonzero(is_ordinary), jnp.int32)
    return Vocabulary(jnp.asarray(tokenizer.mask_id, jnp.int32), ordinary, jnp.asarray(is_ordinary))


def num_masked(num_tokens: Any, share: float) -> np.ndarray:
    """How many tokens are masked of ``num_tokens`` ordinary ones: ``share`` of them, rounded, but at least one."""
    counts = np.asarray(num_tokens)
    return np.where(counts > 0, np.maximum(1, np.round(share * counts)), 0).astype(np.int32)


def mask_tokens(key: Array, ids: Array, mask: Array, vocabulary: Vocabulary, share: float = 0.15) -> MaskedTokens:
    """Masks random tokens of one text for masked language modelling, to be mapped over texts and keys.

    ``share`` of the ordinary tokens, rounded, at least one, are masked: 80 % of them are replaced by the mask token,
    10 % by a random token, 10 % stay as they are. Special tokens and padding are never masked.

    Args:
      key: of the draws.
      ids: ``i32[T]``.
      mask: ``bool[T]``, False at padding.
      vocabulary: see :func:`vocabulary`.
      share: in (0, 1].

    References:
      Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers", NAACL 2019.
    """
    place_key, kind_key, token_key = jax.random.split(key, 3)
    length = len(ids)
    counts = num_masked(np.arange(length + 1), share)  # On the host: the input and its targets round alike.
    candidate = mask & vocabulary.is_ordinary[ids]
    lots = jnp.where(candidate, jax.random.uniform(place_key, ids.shape), -1.0)
    _, positions = jax.lax.top_k(lots, max(1, int(counts[-1])))
    valid = jnp.arange(len(positions)) < jnp.asarray(counts)[candidate.sum()]
    targets = ids[positions]
    kind = jax.random.uniform(kind_key, positions.shape)
    drawn = vocabulary.ordinary[jax.random.randint(token_key, positions.shape, 0, len(vocabulary.ordinary))]
    shown = jnp.where(kind < 0.8, vocabulary.mask_id, jnp.where(kind < 0.9, drawn, targets))
    return MaskedTokens(ids.at[positions].set(jnp.where(valid, shown, targets)), positions, targets, valid)


def masked_lm_loss(module: Transformer, params: PyTree, masked: MaskedTokens, mask: Array, **apply: Any) -> Array:
    """Masked language modelling: ``f32[B]``, the sums over the masked tokens of each text of ``-log p(token)``.

    Logits are computed at masked positions only.

    Args:
      module: with a head.
      params: of the module.
      masked: the texts, with a leading axis ``B``, see :func:`mask_tokens`.
      mask: ``bool[B, T]``.
      **apply: further arguments of Flax's ``apply``, such as ``rngs={"dropout": key}``.
    """
    hidden: Any = module.apply(params, masked.ids, mask, **apply)
    hidden = jnp.take_along_axis(hidden, masked.positions[:, :, None], axis=1)
    logits: Any = module.apply(params, hidden, method="logits")
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, masked.targets)
    return jnp.where(masked.valid, losses, 0).sum(axis=1)


def causal_lm_loss(module: Transformer, params: PyTree, ids: Array, mask: Array, **apply: Any) -> Array:
    """Causal language modelling: ``f32[B]``, the sums over each text of ``-log p(token | tokens before it)``.

    The first token has nothing before it and no loss.

    Args:
      module: a decoder.
      params: of the module.
      ids: ``i32[B, T]``.
      mask: ``bool[B, T]``.
      **apply: see :func:`masked_lm_loss`.
    """
    hidden: Any = module.apply(params, ids, mask, **apply)
    logits: Any = module.apply(params, hidden[:, :-1], method="logits")
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, ids[:, 1:])
    return jnp.where(mask[:, 1:], losses, 0).sum(axis=1)


def answer_lm_loss(
    module: Transformer, params: PyTree, ids: Array, mask: Array, answers: Array, answer_mask: Array, **apply: Any
) -> Array:
    """Language modelling of answers: ``f32[B]``, sums of ``-log p(token | prompt, tokens of the answer before it)``.

    The prompt has no loss, and logits are computed at the tokens of the answer only.

    Args:
      module: a decoder.
      params: of the module.
      ids: ``i32[B, T]``, prompts, each followed by its answer.
      mask: ``bool[B, T]``.
      answers: ``i32[B, K]``, the answers alone.
      answer_mask: ``bool[B, K]``.
      **apply: see :func:`masked_lm_loss`.

    References:
      Bao et al., "TALLRec: An Effective and Efficient Tuning Framework to Align Large Language
      Model with Recommendation", RecSys 2023.
    """
    hidden: Any = module.apply(params, ids, mask, **apply)
    last_asked = mask.sum(axis=1) - answer_mask.sum(axis=1) - 1
    before = last_asked[:, None] + jnp.arange(answers.shape[1])[None]
    hidden = jnp.take_along_axis(hidden, before[:, :, None], axis=1, mode="clip")
    logits: Any = module.apply(params, hidden, method="logits")
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, answers)
    return jnp.where(answer_mask, losses, 0).sum(axis=1)


def contrastive_loss(
    module: Transformer, params: PyTree, ids: Array, mask: Array, *, temperature: float, pooling: Pooling, **apply: Any
) -> Array:
    """InfoNCE of pairs of texts, ``f32[B]``, see :func:`recjax.losses.info_nce`.

    Equal texts are no negatives of each other, nor are texts whose partners are equal.

    Args:
      module: the encoder.
      params: of the module.
      ids: ``i32[2, B, T]``, the texts and their partners. The same text twice, with dropout, is SimCSE.
      mask: ``bool[2, B, T]``.
      temperature: of the cosines.
      pooling: see :func:`pool`.
      **apply: see :func:`masked_lm_loss`.

    References:
      Gao et al., "SimCSE: Simple Contrastive Learning of Sentence Embeddings", EMNLP 2021, whose
      negatives are the second views of the other texts; here they are both views, as in SimCLR.
    """
    batch = ids.shape[1]
    # In one pass; rows of it have different dropout.
    rows = (2 * batch, ids.shape[2])
    vectors = pooled(module, params, ids.reshape(rows), mask.reshape(rows), pooling, **apply)
    seen = jnp.where(mask, ids, -1)
    alike = (seen[:, :, None] == seen[:, None, :]).all(axis=-1).any(axis=0)
    return info_nce(vectors[:batch], vectors[batch:], temperature=temperature, alike=alike)


def check_objective(model: LanguageModel, objective: str) -> None:
    """Raises ValueError where a model cannot be trained or evaluated by an objective."""
    if objective not in get_args(Objective):
        raise ValueError(f"objective is {objective!r}; choose one of {', '.join(get_args(Objective))}.")
    model.need_tokenizer()
    family, causal = model.config.family, model.config.traits.causal
    if objective in ("causal", "answers") and not causal:
        raise ValueError(
            f"objective is {objective!r}, but {family!r} attends to later tokens; use 'masked', or a decoder."
        )
    if objective == "masked" and causal:
        raise ValueError(
            f"objective is 'masked', but {family!r} attends to earlier tokens only; use 'causal', or BERT."
        )
    if objective == "masked" and "head" not in model.params["params"]:
        raise ValueError("The model has no head for masked tokens; give it a fresh one: with_head(model, key).")
