"""How models are trained on the next item: options that are checked, without the code that they are for."""

from __future__ import annotations

import dataclasses

FULL_SOFTMAX_LIMIT = 20_000
"""Items up to which every item of the catalogue is scored and updated at each step unless told otherwise."""

SAMPLERS = ("uniform", "popularity", "in_batch", "mixed")


@dataclasses.dataclass(frozen=True)
class NextItemConfig:
    """What all training on the next item is configured by.

    Attributes:
      epochs: passes over all examples, at most.
      batch_size: examples in a batch; at most as many as there are.
      history_length: events that the model sees.
      learning_rate: the peak of the learning rate.
      schedule: how it changes, a name in ``recjax.fit.learning_rates``.
      weight_decay: decoupled, on all parameters; with row-wise updates, item rows that a batch
        does not read are not decayed.
      max_grad_norm: the largest global norm of a gradient; None does not clip.
      loss: "softmax" over the whole catalogue; or a name in ``recjax.losses.losses``
        ("sampled_softmax", "gbce", "bce", "bpr"), by which an update costs the same for any
        catalogue. By default the softmax for up to :data:`FULL_SOFTMAX_LIMIT` items, "sampled_softmax" for more.
      negatives: items that the examples of a batch share as negatives of a sampled loss.
      sampler: how they are drawn: "uniform", "popularity", "in_batch" (the other examples'
        items, and ``negatives`` does not matter) or "mixed" (those and uniform ones).
      warmup_steps: updates over which the learning rate rises from 0.
      optimizer: a name in ``recjax.fit.optimizers``, "adamw" or "adafactor". Item tables that are updated by rows
        have a row-wise Adam whatever its name.
      l2: times the parameters, is added to the gradient: the derivative of ``l2 / 2 |params|²``.
      accumulate: into how many parts each batch is cut, one computed after the other, for less
        memory. Negatives of "in_batch" are those of one part. Must divide ``batch_size``.
    """

    epochs: int
    batch_size: int
    history_length: int
    learning_rate: float
    schedule: str
    weight_decay: float
    max_grad_norm: float | None
    loss: str | None = None
    negatives: int = 1024
    sampler: str = "uniform"
    warmup_steps: int = 0
    optimizer: str = "adamw"
    l2: float = 0.0
    accumulate: int = 1

    def __post_init__(self) -> None:
        self.check_at_least_one("epochs", "batch_size", "history_length", "negatives", "accumulate")
        self.check_choices(sampler=SAMPLERS)
        self._check_registered()
        kind = type(self).__name__
        if not self.learning_rate > 0:
            raise ValueError(f"{kind}.learning_rate is {self.learning_rate}; it must be above 0.")
        if self.max_grad_norm is not None and not self.max_grad_norm > 0:
            raise ValueError(f"{kind}.max_grad_norm is {self.max_grad_norm}; it must be above 0, or None.")
        self.check_not_negative("weight_decay", "l2", "warmup_steps")
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"{kind}.accumulate is {self.accumulate}, which does not divide batch_size {self.batch_size};"
                " choose a divisor."
            )

    def _check_registered(self) -> None:
        """Raises ValueError where a schedule, an optimiser or a loss is not registered."""
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        if all(getattr(self, name) == defaults[name] for name in ("schedule", "optimizer", "loss")):
            return  # These exist; to look them up would import JAX, which takes longer than to print a help text.
        from recjax.fit import learning_rates, optimizers
        from recjax.losses import losses

        self.check_choices(schedule=tuple(learning_rates), optimizer=tuple(optimizers))
        if self.loss not in (None, "softmax", *losses):
            name = f"{type(self).__name__}.loss"
            raise ValueError(f"{name} is {self.loss!r}; choose softmax, {', '.join(losses)}, or None.")

    def check_at_least_one(self, *names: str) -> None:
        """Raises ValueError where a field is below 1."""
        for name in names:
            if getattr(self, name) < 1:
                raise ValueError(f"{type(self).__name__}.{name} is {getattr(self, name)}; it must be at least 1.")

    def check_not_negative(self, *names: str) -> None:
        """Raises ValueError where a field is below 0 or NaN."""
        for name in names:
            if not getattr(self, name) >= 0:
                raise ValueError(f"{type(self).__name__}.{name} is {getattr(self, name)}; it must be at least 0.")

    def check_choices(self, **choices: tuple[str, ...]) -> None:
        """Raises ValueError where a field is none of its choices."""
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{type(self).__name__}.{name} is {getattr(self, name)!r}; choose one of {', '.join(known)}."
                )

    def loss_for(self, num_items: int) -> str:
        """The name of the loss for a catalogue of that size."""
        return self.loss or ("softmax" if num_items <= FULL_SOFTMAX_LIMIT else "sampled_softmax")


@dataclasses.dataclass(frozen=True)
class TwoTowerConfig(NextItemConfig):
    """How to train two towers on the next item at every position.

    The defaults were chosen on the validation split of MovieLens-100K (leave one out,
    the whole catalogue ranked, seen items left out), with ``Recommendation.of(num_items, 32,
    encoder="attention", temperature=0.1)``.

    Examples are all positions of the training sequences; see :class:`NextItemConfig` for the fields. With a
    sampled loss, item rows are updated by :class:`recjax.fit.RowWise` with ``row_adam``.
    """

    epochs: int = 6
    batch_size: int = 512
    history_length: int = 20
    learning_rate: float = 1e-2
    schedule: str = "cosine"
    weight_decay: float = 0.1
    max_grad_norm: float | None = 1.0
