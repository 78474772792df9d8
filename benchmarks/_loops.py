"""What the benchmarks of the closed loop share: the agent that learns, and the rate that bounds its scores."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
from _measure import clock

from recjax import agents, nn
from recjax.catalogue import row_adam
from recjax.fit import RowWise, rows_pay

SLATE, DIM, BATCH, EPSILON, INDEX_EVERY = 5, 32, 128, 0.1, 100


def dqn(items: int, history: int) -> agents.Agent:
    """DQN that updates by rows and keeps item vectors where that is faster."""
    by_rows = rows_pay(items, BATCH * (SLATE + history))
    return agents.dqn(
        nn.DotProductQ.of(num_items=items, dim=DIM),
        RowWise(row_adam(1e-3), optax.adam(1e-3)) if by_rows else optax.adam(1e-3),
        policy=agents.SlatePolicy(epsilon=EPSILON),
        index_every=INDEX_EVERY if by_rows else None,
    )


def product_rate(dim: int, seconds: float) -> float:
    """Operations a second of products ``[2048, dim] x [dim, 128]``, what scoring a catalogue in blocks cannot beat."""
    vectors, queries = jnp.ones((2048, dim)), jnp.ones((128, dim))
    count = 64

    @jax.jit
    def products(vectors: jax.Array, queries: jax.Array) -> jax.Array:
        def body(i: int, held: jax.Array) -> jax.Array:
            # Of other numbers each time, so that no product is moved out of the loop.
            return held + (vectors @ (queries + i).T)[:, :1]

        return jax.lax.fori_loop(0, count, body, jnp.zeros((2048, 1)))

    return 2 * 2048 * 128 * dim * count / clock(lambda: products(vectors, queries).block_until_ready(), seconds)
