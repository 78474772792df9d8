"""What a language model is trained to do: fill gaps, go on, answer, tell texts apart.

Each is a sum for each text of a batch. Texts are ``ids i32[B, T]`` and ``mask bool[B, T]``, padded on the right.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax

from recjax.losses import info_nce
from recjax.models.text.model import LanguageModel
from recjax.models.text.pooling import Pooling, pooled
from recjax.models.text.transformer import Transformer
from recjax.types import Array, PyTree

Objective = Literal["masked", "causal", "simcse", "pairs", "answers"]
"""Gaps are filled in; the next token is told; two looks at a text, or two texts of a pair, are told from others;
answers to prompts are told."""


class Vocabulary(NamedTuple):
    """Which tokens gaps are made of.

    Attributes:
      mask_id: ``i32[]`` what stands in a gap.
      ordinary: ``i32[n]`` tokens that stand for text: only they become gaps, and at random they stand in some.
      is_ordinary: ``bool[V]`` the same by token.
    """

    mask_id: Array
    ordinary: Array
    is_ordinary: Array


class Gaps(NamedTuple):
    """A text with gaps.

    Attributes:
      ids: ``i32[T]`` what is read.
      positions: ``i32[K]`` where gaps are; all different.
      targets: ``i32[K]`` what stood there.
      valid: ``bool[K]`` which of them are gaps.
    """

    ids: Array
    positions: Array
    targets: Array
    valid: Array


def vocabulary(model: LanguageModel) -> Vocabulary:
    """The tokens of a model, for gaps.

    Raises:
      ValueError: its tokenizer has no token for gaps.
    """
    tokenizer = model.need_tokenizer()
    if tokenizer.mask_id is None:
        raise ValueError(
            "The tokenizer has neither [MASK] nor <mask>, so no gap can be shown; use another objective than 'masked'"
            " or another tokenizer."
        )
    is_ordinary = np.zeros(model.config.vocab_size, bool)
    is_ordinary[list(tokenizer.backend.get_vocab().values())] = True
    is_ordinary[list(tokenizer.special_ids)] = False
    ordinary = jnp.asarray(np.flatnonzero(is_ordinary), jnp.int32)
    return Vocabulary(jnp.asarray(tokenizer.mask_id, jnp.int32), ordinary, jnp.asarray(is_ordinary))


def num_gaps(num_tokens: Any, share: float) -> np.ndarray:
    """How many gaps texts of ``num_tokens`` ordinary tokens have: ``share`` of them, rounded, but at least one."""
    counts = np.asarray(num_tokens)
    return np.where(counts > 0, np.maximum(1, np.round(share * counts)), 0).astype(np.int32)


def open_gaps(key: Array, ids: Array, mask: Array, vocabulary: Vocabulary, share: float = 0.15) -> Gaps:
    """Draws the gaps of masked language models in one text, to be mapped over texts and keys.

    ``share`` of the ordinary tokens, rounded, at least one, are gaps. In 80 % of them stands the token
    for gaps, in 10 % another at random, in 10 % what stood there. Special tokens and padding are never gaps.

    Args:
      key: of the draws.
      ids: ``i32[T]``.
      mask: ``bool[T]``, True at tokens that are there.
      vocabulary: see :func:`vocabulary`.
      share: in (0, 1].

    References:
      Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers", NAACL 2019.
    """
    place_key, kind_key, token_key = jax.random.split(key, 3)
    length = len(ids)
    counts = num_gaps(np.arange(length + 1), share)  # Made by the host: the model and its targets round alike.
    candidate = mask & vocabulary.is_ordinary[ids]
    lots = jnp.where(candidate, jax.random.uniform(place_key, ids.shape), -1.0)
    _, positions = jax.lax.top_k(lots, max(1, int(counts[-1])))
    valid = jnp.arange(len(positions)) < jnp.asarray(counts)[candidate.sum()]
    targets = ids[positions]
    kind = jax.random.uniform(kind_key, positions.shape)
    drawn = vocabulary.ordinary[jax.random.randint(token_key, positions.shape, 0, len(vocabulary.ordinary))]
    shown = jnp.where(kind < 0.8, vocabulary.mask_id, jnp.where(kind < 0.9, drawn, targets))
    return Gaps(ids.at[positions].set(jnp.where(valid, shown, targets)), positions, targets, valid)


def masked_nats(module: Transformer, params: PyTree, gaps: Gaps, mask: Array, **apply: Any) -> Array:
    """``f32[B]``, the sums over the gaps of each text of ``-log p(what stood there)``.

    Logits are computed at gaps only, which is a sixth of what they are computed at otherwise.

    Args:
      module: with a head.
      params: of the module.
      gaps: of each text, with a leading axis ``B``.
      mask: ``bool[B, T]``.
      **apply: further arguments of Flax's ``apply``, such as ``rngs={"dropout": key}``.
    """
    hidden: Any = module.apply(params, gaps.ids, mask, **apply)
    hidden = jnp.take_along_axis(hidden, gaps.positions[:, :, None], axis=1)
    logits: Any = module.apply(params, hidden, method="logits")
    nats = optax.softmax_cross_entropy_with_integer_labels(logits, gaps.targets)
    return jnp.where(gaps.valid, nats, 0).sum(axis=1)


def causal_nats(module: Transformer, params: PyTree, ids: Array, mask: Array, **apply: Any) -> Array:
    """``f32[B]``, the sums over the tokens of each text but its first of ``-log p(token | those before)``.

    Args:
      module: a decoder.
      params: of the module.
      ids: ``i32[B, T]``.
      mask: ``bool[B, T]``.
      **apply: see :func:`masked_nats`.
    """
    hidden: Any = module.apply(params, ids, mask, **apply)
    logits: Any = module.apply(params, hidden[:, :-1], method="logits")
    nats = optax.softmax_cross_entropy_with_integer_labels(logits, ids[:, 1:])
    return jnp.where(mask[:, 1:], nats, 0).sum(axis=1)


def answer_nats(
    module: Transformer, params: PyTree, ids: Array, mask: Array, answers: Array, answer_mask: Array, **apply: Any
) -> Array:
    """``f32[B]``, the sums over the tokens of each answer of ``-log p(token | prompt, those before)``.

    Logits are computed where an answer is told only.

    Args:
      module: a decoder.
      params: of the module.
      ids: ``i32[B, T]``, prompts, each followed by its answer.
      mask: ``bool[B, T]``.
      answers: ``i32[B, K]``, the answers alone.
      answer_mask: ``bool[B, K]``.
      **apply: see :func:`masked_nats`.

    References:
      Bao et al., "TALLRec: An Effective and Efficient Tuning Framework to Align Large Language
      Model with Recommendation", RecSys 2023.
    """
    hidden: Any = module.apply(params, ids, mask, **apply)
    last_asked = mask.sum(axis=1) - answer_mask.sum(axis=1) - 1
    before = last_asked[:, None] + jnp.arange(answers.shape[1])[None]
    hidden = jnp.take_along_axis(hidden, before[:, :, None], axis=1, mode="clip")
    logits: Any = module.apply(params, hidden, method="logits")
    nats = optax.softmax_cross_entropy_with_integer_labels(logits, answers)
    return jnp.where(answer_mask, nats, 0).sum(axis=1)


def contrastive_nats(
    module: Transformer, params: PyTree, ids: Array, mask: Array, *, temperature: float, pooling: Pooling, **apply: Any
) -> Array:
    """``f32[B]``: how surely vectors tell their partners from all others, by :func:`recjax.losses.info_nce`.

    Texts that are equal are no negatives of each other, nor are those whose partners are.

    Args:
      module: the encoder.
      params: of the module.
      ids: ``i32[2, B, T]``, the texts and their partners. The same twice, with dropout, is SimCSE.
      mask: ``bool[2, B, T]``.
      temperature: of the cosines.
      pooling: see :func:`pool`.
      **apply: see :func:`masked_nats`.

    References:
      Gao et al., "SimCSE: Simple Contrastive Learning of Sentence Embeddings", EMNLP 2021, whose
      negatives are the other views; here they are both views of the other texts, as in SimCLR.
    """
    batch = ids.shape[1]
    # In one pass; rows of it have different dropout.
    rows = (2 * batch, ids.shape[2])
    vectors = pooled(module, params, ids.reshape(rows), mask.reshape(rows), pooling, **apply)
    seen = jnp.where(mask, ids, -1)
    alike = (seen[:, :, None] == seen[:, None, :]).all(axis=-1).any(axis=0)
    return info_nce(vectors[:batch], vectors[batch:], temperature=temperature, alike=alike)


def check_objective(model: LanguageModel, objective: str) -> None:
    """Raises ValueError where a model cannot be trained by, or asked, an objective."""
    if objective not in get_args(Objective):
        raise ValueError(f"objective is {objective!r}; choose one of {', '.join(get_args(Objective))}.")
    model.need_tokenizer()
    family, causal = model.config.family, model.config.traits.causal
    if objective in ("causal", "answers") and not causal:
        raise ValueError(
            f"objective is {objective!r}, but {family!r} sees what comes later; use 'masked', or a decoder."
        )
    if objective == "masked" and causal:
        raise ValueError(f"objective is 'masked', but {family!r} sees nothing that comes later; use 'causal', or BERT.")
    if objective == "masked" and "head" not in model.params["params"]:
        raise ValueError("The model has no head for masked tokens; give it a fresh one: with_head(model, key).")
