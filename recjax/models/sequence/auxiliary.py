"""Losses beside that of the next item: contrast of two views of a history, attributes of the next item."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from recjax.losses import info_nce, masked_mean
from recjax.models.sequence.augment import two_views
from recjax.models.sequence.contrastive import attribute_loss
from recjax.models.sequence.next_item import each_event, is_item
from recjax.nn import Recommendation, SequenceModel
from recjax.nn.features import parameter_names
from recjax.types import PAD_ID, Array, Items, Observation, PyTree


class Auxiliary(NamedTuple):
    """A loss beside that of the next item.

    Attributes:
      name: of its metric.
      weight: in the sum.
      loss: ``(params, window, items, key) -> f32[]``; ``window`` holds ``L + 1`` events.
    """

    name: str
    weight: float
    loss: Callable[[PyTree, Observation, Items, Array], Array]


def auxiliary_losses(module: SequenceModel, config: Any, items: Items, similar: Array | None) -> tuple[Auxiliary, ...]:
    """The losses of a :class:`recjax.models.sequence.SequenceConfig` beside that of the next item.

    Raises:
      ValueError: a view needs ``similar`` and there is none, or attributes are asked for and
        items have none.

    References:
      Xie et al. (CL4SRec), ICDE 2022; Zhou et al. (S3-Rec), CIKM 2020.
    """
    found = []
    if config.contrastive:
        found.append(
            Auxiliary("contrastive", config.contrastive, _contrastive(module, config, items.num_items, similar))
        )
    if config.attributes:
        name = items.first("multi_hot") if isinstance(module, Recommendation) else None
        if not isinstance(module, Recommendation) or name is None:
            raise ValueError(
                f"SequenceConfig.attributes is {config.attributes}, but the items have no feature of kind 'multi_hot'."
            )
        found.append(Auxiliary("attributes", config.attributes, _attributes(module, name)))
    return tuple(found)


def _contrastive(module: SequenceModel, config: Any, num_items: int, similar: Array | None) -> Callable[..., Array]:
    options: dict[str, Any] = {}
    if "mask" in config.views:
        options["mask_id"] = num_items
    if {"insert", "substitute"} & set(config.views):
        if similar is None:
            raise ValueError(
                f"The views {config.views} need items like each: give similar=i32[N, n], e.g. ItemKNN.ids."
            )
        options["similar"] = similar

    def loss(params: PyTree, window: Observation, items: Items, key: Array) -> Array:
        view_key, *keys = jax.random.split(key, 3)
        history, last = window.history[:, 1:], window.behaviour[:, -1:]
        views = two_views(view_key, history, config.views, **options)
        time = window.time
        # Where events are moved, their behaviours and times mean nothing; all are taken for the last one's.
        represented: list[Any] = [
            module.apply(
                params,
                Observation(
                    view, jnp.where(view == PAD_ID, PAD_ID, last), window.context,
                    None if time is None else jnp.broadcast_to(time[:, -1:], view.shape),
                ),
                items,
                method="represent", rngs={"dropout": key},
            )
            for view, key in zip(views, keys, strict=True)
        ]  # fmt: skip
        valid = (history != PAD_ID).sum(-1) > 1
        each = info_nce(*represented, temperature=config.contrastive_temperature, valid=valid)
        return masked_mean(each, valid)

    return loss


def _attributes(module: Recommendation, name: str) -> Callable[..., Array]:
    def loss(params: PyTree, window: Observation, items: Items, key: Array) -> Array:
        seen = each_event(lambda events: events[:, :-1], window)
        target = window.history[:, 1:]
        hidden: Any = module.apply(params, seen, items, every_position=True, method="represent", rngs={"dropout": key})
        known = is_item(target, module.num_items)
        vectors = params["params"]["item"][parameter_names(items.features, module.item.encoders)[name]]["kernel"]
        return attribute_loss(hidden, vectors, items.features[name].values[jnp.where(known, target, 0)], known)

    return loss
