"""Training of language models on texts: from scratch, further, or a part of them, by any of the objectives."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, get_args

import jax
import jax.numpy as jnp
import optax
from flax import struct

from recjax.fit import (
    Adaptation,
    Hooks,
    LossFn,
    Switch,
    TrainingPlan,
    fit_epochs,
    layer_wise,
    learning_rates,
    optimizers,
)
from recjax.language.corpus import Corpus, count_targets, make_corpus, read_examples
from recjax.language.model import LanguageModel
from recjax.language.objectives import (
    Objective,
    answer_lm_loss,
    causal_lm_loss,
    check_objective,
    contrastive_loss,
    mask_tokens,
    masked_lm_loss,
    vocabulary,
)
from recjax.language.pooling import Pooling
from recjax.language.transformer import Transformer, in_embeddings, in_layers
from recjax.types import Array, PyTree

TextLoss = Callable[[PyTree, Array, Array, Array], Array]
"""``(params, ids i32[F, B, T], mask bool[F, B, T], key) -> f32[B]``, the sum over the targets of each example."""


@dataclasses.dataclass(frozen=True)
class TextConfig:
    """How to train a language model.

    Attributes:
      objective: "masked" language modelling ("bert"), "causal" language modelling (the others), "answers", which is
        the same on the answer to a prompt alone, or a contrastive loss: "simcse" of two views of a text, which differ
        by dropout, "pairs" of two texts that belong together.
      epochs: passes over all texts, at most.
      batch_size: texts in a batch; at most as many as there are.
      learning_rate: the peak of the learning rate.
      schedule: how it changes, a name in ``recjax.fit.learning_rates``.
      warmup_steps: updates over which it rises from 0.
      optimizer: a name in ``recjax.fit.optimizers``, "adamw" or "adafactor".
      weight_decay: decoupled, on all that is trained.
      max_grad_norm: the largest global norm of a gradient; None does not clip.
      layer_decay: the learning rate of each layer is that of the layer above times this, see
        :func:`recjax.fit.layer_wise`.
      dropout: share dropped in training, of attention weights too; by default that of the model's config.
      mask_share: of the tokens that are masked ("masked").
      temperature: of cosines ("simcse", "pairs").
      pooling: of hidden states ("simcse", "pairs"), see :func:`pool`.
      accumulate: into how many parts each batch is cut, one computed after the other, for less memory and less
        padding: a part holds texts of like length. The negatives of "simcse" and "pairs" are those of one part.
      num_buckets: how many lengths texts are padded to, each compiled for itself.
    """

    objective: Objective = "masked"
    epochs: int = 1
    batch_size: int = 32
    learning_rate: float = 5e-5
    schedule: str = "linear"
    warmup_steps: int = 0
    optimizer: str = "adamw"
    weight_decay: float = 0.01
    max_grad_norm: float | None = 1.0
    layer_decay: float = 1.0
    dropout: float | None = None
    mask_share: float = 0.15
    temperature: float = 0.05
    pooling: Pooling = "mean"
    accumulate: int = 1
    num_buckets: int = 4

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulate", "num_buckets"):
            if getattr(self, name) < 1:
                raise ValueError(f"TextConfig.{name} is {getattr(self, name)}; it must be at least 1.")
        for name, choices in (
            ("objective", get_args(Objective)),
            ("optimizer", tuple(optimizers)),
            ("pooling", get_args(Pooling)),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(f"TextConfig.{name} is {getattr(self, name)!r}; choose one of {', '.join(choices)}.")
        for name in ("layer_decay", "mask_share"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"TextConfig.{name} is {getattr(self, name)}; it must lie in (0, 1].")
        if not self.learning_rate > 0:
            raise ValueError(f"TextConfig.learning_rate is {self.learning_rate}; it must be above 0, e.g. 5e-5.")
        if not self.temperature > 0:
            raise ValueError(f"TextConfig.temperature is {self.temperature}; it must be above 0, e.g. 0.05.")
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise ValueError(f"TextConfig.dropout is {self.dropout}; it must lie in [0, 1), or be None.")


@dataclasses.dataclass(frozen=True)
class FittedText:
    """A trained language model.

    Attributes:
      model: the model that was given, with what was learned merged into it.
      variables: what was trained: parameters, or the variables of the adaptation, which are few.
      history: the metrics of each epoch, as :class:`recjax.fit.Fitted` has them; ``loss`` is the mean negative
        log-likelihood per target, in nats.
      best_epoch: which epoch ``model`` is of, counted from 1.
    """

    model: LanguageModel
    variables: PyTree = dataclasses.field(repr=False)
    history: list[dict[str, float]]
    best_epoch: int

    @property
    def num_trained(self) -> int:
        """How many numbers were trained."""
        return sum(leaf.size for leaf in jax.tree.leaves(self.variables))


@struct.dataclass
class _Data:
    """The texts on the device, and the parameters that an adaptation changes, or None."""

    corpus: Corpus
    base: PyTree = None


def fit_text(
    model: LanguageModel,
    texts: Sequence[Any],
    config: TextConfig = TextConfig(),
    *,
    key: Array,
    adaptation: Adaptation | None = None,
    hooks: Hooks = Hooks(),
) -> FittedText:
    """Trains a language model on texts, from scratch or from pretrained weights.

    A target counts the same whichever text or batch it is in. Texts without targets (too short, or only special
    tokens) are left out; texts longer than the tokenizer's ``max_length`` are cut at the end, prompts at the beginning.

    >>> from recjax import language
    >>> titles = ["The Third Man", "The Second Woman", "Third Person"]
    >>> tokenizer = language.train_wordpiece(titles, vocab_size=60, max_length=16)
    >>> shape = {"dim": 8, "num_layers": 1, "num_heads": 2, "feed_forward": 16}
    >>> config = language.LanguageConfig("bert", vocab_size=60, max_length=16, **shape)
    >>> model = language.initialize(config, jax.random.key(0), tokenizer)
    >>> fitted = language.fit_text(model, titles, language.TextConfig(epochs=2), key=jax.random.key(1))
    >>> len(fitted.history), fitted.num_trained == model.num_params
    (2, True)

    Args:
      model: with a tokenizer; for "masked" also with a head, see :func:`with_head`.
      texts: ``N`` of them; for "pairs" ``N`` pairs, for "answers" ``N`` of a prompt and what is to follow it,
        such as ``("Is Alien a comedy? Answer:", " No")``.
      config: how to train.
      key: of shuffles, masks, dropout and what an adaptation draws.
      adaptation: what is trained, such as ``fit.lora(8, stacked=language.in_layers)``; everything by default.
      hooks: callback ``(epoch, model) -> metrics``, e.g. with :func:`evaluate_text`, early stopping, progress and
        checkpoints, which hold what is trained.

    Raises:
      ValueError: the model cannot be trained by the objective; no text has a target; something is not a text, or a
        pair; the checkpoints are of another training.
      RuntimeError: the loss became infinite or NaN.

    References:
      Gururangan et al., "Don't Stop Pretraining: Adapt Language Models to Domains and Tasks", ACL 2020.
    """
    check_objective(model, config.objective)
    corpus, lengths, targets_per_text = _prepare(model, texts, config)
    loss_of = text_loss(model, config, longest_answer=int(corpus.lengths[-1].max()))
    num_texts = len(corpus.bucket)
    batch_size = min(config.batch_size, num_texts)

    def gather(data: _Data, indices: Array) -> PyTree:
        return *data.corpus.window(indices, lengths[-1]), data.corpus.bucket[indices], data.base

    def expand(base: PyTree, variables: PyTree) -> PyTree:
        return variables if adaptation is None else adaptation.expand(base, variables)

    def of_length(length: int) -> LossFn:
        def loss_fn(variables: PyTree, batch: PyTree, key: Array) -> tuple[Array, dict[str, Array]]:
            ids, mask, _, base = batch
            losses = loss_of(expand(base, variables), ids[..., :length], mask[..., :length], key)
            # A mean over all targets, whatever the share of them that this batch, or part of one, has.
            return losses.mean() / targets_per_text, {}

        return loss_fn

    init_key, fit_key = jax.random.split(key)
    variables = model.params if adaptation is None else adaptation.init(init_key, model.params)
    fitted = fit_epochs(
        Switch(lambda batch: batch[2].max(), tuple(map(of_length, lengths))),
        _optimizer(config, config.epochs * -(-num_texts // batch_size)),
        variables,
        _Data(corpus, None if adaptation is None else model.params),
        TrainingPlan(
            config.epochs,
            batch_size,
            num_examples=num_texts,
            gather=gather,
            sort_key=corpus.bucket,
            accumulate=math.gcd(config.accumulate, batch_size),
            name=config.objective,
        ),
        key=fit_key,
        hooks=hooks.map_params(lambda now: _learned(model, expand, now)),
        config=config,
    )
    return FittedText(_learned(model, expand, fitted.params), fitted.params, fitted.history, fitted.best_epoch)


def text_loss(model: LanguageModel, config: TextConfig, *, longest_answer: int | None = None) -> TextLoss:
    """The loss of an objective, with dropout, as a function of the parameters.

    Args:
      model: what is trained.
      config: how.
      longest_answer: the most tokens of an answer ("answers", whose fields are the prompts, each followed by its
        answer, and the answers); ``T`` by default, at the price of as many logits.

    Raises:
      ValueError: the model cannot be trained by the objective.
    """
    check_objective(model, config.objective)
    module = _with_dropout(model.module, config)
    if config.objective == "masked":
        tokens = vocabulary(model)

        def masked(params: PyTree, ids: Array, mask: Array, key: Array) -> Array:
            mask_key, dropout_key = jax.random.split(key)
            mask_all = jax.vmap(lambda key, ids, mask: mask_tokens(key, ids, mask, tokens, config.mask_share))
            shown = mask_all(jax.random.split(mask_key, ids.shape[1]), ids[0], mask[0])
            return masked_lm_loss(module, params, shown, mask[0], rngs={"dropout": dropout_key})

        return masked
    if config.objective == "causal":
        return lambda params, ids, mask, key: causal_lm_loss(module, params, ids[0], mask[0], rngs={"dropout": key})

    if config.objective == "answers":

        def answers(params: PyTree, ids: Array, mask: Array, key: Array) -> Array:
            said, there = ids[1, :, :longest_answer], mask[1, :, :longest_answer]
            return answer_lm_loss(module, params, ids[0], mask[0], said, there, rngs={"dropout": key})

        return answers

    def contrastive(params: PyTree, ids: Array, mask: Array, key: Array) -> Array:
        two = (2, *ids.shape[1:])  # One text is its own partner.
        return contrastive_loss(
            module, params, jnp.broadcast_to(ids, two), jnp.broadcast_to(mask, two), temperature=config.temperature,
            pooling=config.pooling, rngs={"dropout": key},
        )  # fmt: skip

    return contrastive


def _prepare(model: LanguageModel, texts: Sequence[Any], config: TextConfig) -> tuple[Corpus, tuple[int, ...], float]:
    """The texts on the device, the lengths of the buckets, and the mean number of targets of a text."""
    fields = read_examples(model, texts, config.objective)
    known = vocabulary(model) if config.objective == "masked" else None
    targets = count_targets(fields, config.objective, known, config.mask_share)
    if config.objective in ("simcse", "pairs"):
        batch_size = min(config.batch_size, int(targets.sum()))
        if batch_size and batch_size // math.gcd(config.accumulate, batch_size) == 1:
            raise ValueError(
                f"objective {config.objective!r} compares the texts of a part of a batch, but with batch_size"
                f" {batch_size} and accumulate {config.accumulate} a part has one text; lower accumulate or give more"
                " texts."
            )
    corpus, lengths = make_corpus(model, fields, targets, config.num_buckets)
    return corpus, lengths, float(targets[targets > 0].mean())


def _with_dropout(module: Transformer, config: TextConfig) -> Transformer:
    shares = ("dropout", "attention_dropout", "embedding_dropout")
    if config.dropout is not None:
        dropout: dict[str, Any] = dict.fromkeys(shares, config.dropout)
        module = module.clone(config=dataclasses.replace(module.config, **dropout))
    if config.objective == "simcse" and not any(getattr(module.config, name) for name in shares):
        raise ValueError(
            "objective 'simcse' compares two views of a text that differ by dropout, but the model has none;"
            " set TextConfig.dropout, e.g. to 0.1."
        )
    return module


def _optimizer(config: TextConfig, steps: int) -> optax.GradientTransformation:
    rate = learning_rates.make(config.schedule, config.learning_rate, steps, config.warmup_steps)
    options = {"weight_decay": config.weight_decay, "max_grad_norm": config.max_grad_norm}
    optimizer = optimizers.make(config.optimizer, rate, **options)
    if config.layer_decay == 1.0:
        return optimizer
    return layer_wise(optimizer, config.layer_decay, stacked=in_layers, bottom=in_embeddings)


def _learned(model: LanguageModel, expand: Callable[[PyTree, PyTree], PyTree], variables: PyTree) -> LanguageModel:
    """The model with the trained parameters; parts that training changed are no longer fresh."""
    params = expand(model.params, variables)

    def changed(part: str) -> bool:
        pairs = zip(*(jax.tree.leaves(tree["params"][part]) for tree in (params, model.params)), strict=True)
        return any(bool(jnp.any(one != other)) for one, other in pairs)

    return dataclasses.replace(model, params=params, fresh=tuple(part for part in model.fresh if not changed(part)))
