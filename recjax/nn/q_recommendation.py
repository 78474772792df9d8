"""A recommendation with heads of action values, for Q-learning beside the softmax."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from recjax.nn.q_networks import with_one
from recjax.nn.recommendation import Recommendation
from recjax.types import Array, Items, Observation


class QRecommendation(Recommendation):
    """:class:`recjax.nn.Recommendation` and two heads of values, ``q_h(s, a) = <u(s), w_h(a)> + b_h(a)``.

    ``u`` is the user's vector; the vectors ``w`` and biases ``b`` are the heads' own: ``q_vectors``,
    ``[N, 2, dim + 1]``. Of two heads one can value what the other selects. Items are ranked by the softmax; the heads
    are there for :func:`recjax.models.sequence.self_supervised_q`.
    """

    def setup(self) -> None:
        """Declares the parameters."""
        super().setup()
        shape = (self.num_items, 2, self.user.dim + 1)
        self.q_vectors = self.param("q_vectors", nn.initializers.normal(0.01), shape)

    def states(self, observation: Observation, items: Items, *, every_position: bool = False) -> Array:
        """What the heads score: ``f32[B, dim + 1]``; ``f32[B, L, dim + 1]`` at every position."""
        return with_one(self.represent(observation, items, every_position=every_position).astype(jnp.float32))
