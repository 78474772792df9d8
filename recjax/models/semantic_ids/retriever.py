"""A generative retriever: predicts the semantic id of the next item code by code."""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp

from recjax.models.semantic_ids.ids import SemanticIds
from recjax.nn import LikelihoodModel, TransformerBlock, UserTower
from recjax.nn.history import causal_mask, make_history_encoder
from recjax.nn.towers import append_mask
from recjax.types import Array, Observation


class GenerativeRetriever(LikelihoodModel):
    """``p(item | history) = Π_l p(c_l | history, c_1 .. c_{l-1})`` with ``c`` the codes of the item.

    Two transformers, as in the RQ-Transformer. The long one reads the history, where an item is the sum
    of the vectors of its codes; its output after an event is the user's vector there. The short one
    reads the user's vector and the codes so far, and predicts the next code. So the long one has one
    position an event, where TIGER's has ``levels``; every event of a history is a target of one
    pass; and the search for ids runs the short one only. Vectors of codes are tied: the same are
    read and scored.

    The softmax of a level is over all of its codes; what falls to ids that no item has is lost.

    Train it by :func:`recjax.models.sequence.fit_sequences`, with the ids in place of item features.

    Attributes:
      level_sizes: codes of each level, ``ids.level_sizes``.
      dim: width of all vectors.
      encoder: of histories, see :class:`recjax.nn.UserTower`.
      use_behaviour: whether it reads what a user did to items.
      num_blocks: transformer blocks over the codes of an id.
      num_heads: attention heads of these blocks.
      dropout: share that these blocks drop.

    References:
      Rajput et al., "Recommender Systems with Generative Retrieval" (TIGER), NeurIPS 2023; Lee et al.,
      "Autoregressive Image Generation using Residual Quantization" (RQ-Transformer), CVPR 2022.
    """

    level_sizes: tuple[int, ...]
    dim: int = 64
    encoder: str | Callable[..., nn.Module] = "attention"
    use_behaviour: bool = True
    num_blocks: int = 1
    num_heads: int = 2
    dropout: float = 0.0

    def setup(self) -> None:
        """Declares the parameters."""
        vectors = nn.initializers.normal(self.dim**-0.5)
        self.code = [self.param(f"code_{i}", vectors, (size, self.dim)) for i, size in enumerate(self.level_sizes)]
        self.unknown_item = self.param("unknown_item", vectors, (self.dim,))
        self.level = self.param("level", nn.initializers.normal(0.02), (len(self.level_sizes), self.dim))
        self.user = UserTower(self.dim, encoder=self.encoder, use_behaviour=self.use_behaviour, project=False)
        self.block = [TransformerBlock(self.num_heads, self.dropout) for _ in range(self.num_blocks)]
        self.norm = nn.LayerNorm()

    @property
    def is_bidirectional(self) -> bool:
        """Whether the encoder of histories predicts masked items rather than the next one."""
        return make_history_encoder(self.encoder, parent=None).is_bidirectional

    def __call__(self, observation: Observation, ids: SemanticIds) -> Array:
        """Log-probabilities of the first code, ``f32[B, K]``."""
        users = self.represent(observation, ids)
        return self.next_code(users, jnp.zeros((len(users), 0), jnp.int32))

    def represent(self, observation: Observation, ids: SemanticIds, *, every_position: bool = False) -> Array:
        """Vectors of users, ``f32[B, dim]``; ``f32[B, L, dim]`` at every position of their histories."""
        if self.is_bidirectional and not every_position:
            observation = append_mask(observation, ids.num_items)
        history = observation.history
        is_known = (history >= 0) & (history < ids.num_items)
        codes = ids.codes[jnp.where(is_known, history, 0)]
        items = sum((vectors[codes[..., level]] for level, vectors in enumerate(self.code)), jnp.float32(0))
        items = jnp.where(is_known[..., None], items, self.unknown_item)
        return self.user(observation, items, every_position=every_position)

    def next_code(self, users: Array, codes: Array) -> Array:
        """Log-probabilities of what follows the codes ``i32[B, l]`` with ``l < levels``, ``f32[B, K]``."""
        # Computed anew for each level: ids are too short for a cache of keys and values to pay.
        return self._log_softmax(self._read(users, codes)[:, -1], level=codes.shape[-1])

    def log_probs(self, users: Array, codes: Array) -> Array:
        """Log-probabilities of whole ids: ``(f32[B, dim], i32[B, levels]) -> f32[B]``."""
        read = self._read(users, codes[:, :-1])
        total = jnp.zeros(len(users))
        for level in range(len(self.level_sizes)):
            of_level = self._log_softmax(read[:, level], level)
            total += jnp.take_along_axis(of_level, codes[:, level, None], axis=-1)[:, 0]
        return total

    def next_item_loss(
        self, observation: Observation, target: Array, ids: SemanticIds, *, every_position: bool = False
    ) -> Array:
        """The mean of ``-log p(target)`` over the targets that are items, ``f32[]``.

        Args:
          observation: of a batch of users.
          target: ``i32[B]`` what follows each history; ``i32[B, L]`` what follows each of its positions.
          ids: of all items.
          every_position: which of the two.
        """
        users = self.represent(observation, ids, every_position=every_position).reshape(-1, self.dim)
        target = target.reshape(-1)
        is_known = (target >= 0) & (target < ids.num_items)
        loss = -self.log_probs(users, ids.codes[jnp.where(is_known, target, 0)])
        return jnp.where(is_known, loss, 0.0).sum() / jnp.maximum(is_known.sum(), 1)

    def _read(self, users: Array, codes: Array) -> Array:
        """The outputs after the user and after each of the codes ``i32[B, l]``, ``f32[B, l + 1, dim]``."""
        said = [users, *(self.code[level][codes[:, level]] for level in range(codes.shape[-1]))]
        x = jnp.stack(said, axis=1) + self.level[None, : len(said)]
        visible = causal_mask(jnp.ones(x.shape[:2], bool))
        for block in self.block:
            x = block(x, visible)
        return self.norm(x)

    def _log_softmax(self, read: Array, level: int) -> Array:
        return nn.log_softmax(read @ self.code[level].T)
