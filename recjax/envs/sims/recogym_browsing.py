"""Organic phases of RecoGym: what users look at by themselves, between recommendations.

A view costs a softmax over all products. In a step few users view anything, and those few a different number of times.
Mapped over users, a loop of views would run for all of them until the last is done: some twenty times, where a user
views a product every fourth step. So the loop over views here is one for all users: each round serves a few of those
who are still browsing, as many as are likely to be.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from recjax.envs.choice import dynamics
from recjax.types import Array, Behaviour, Observation

LANES = 32
"""One in so many users is served in a round of views."""


@struct.dataclass
class Organic:
    """What is organic in RecoGym, the same for all users.

    Attributes:
      vectors: ``f32[P, K]`` organic vectors of products.
      bias: ``f32[P]`` organic popularity, as a logit.
      drift: ``f32[]`` standard deviation of a user's drift before each view but the first.
      stay: ``f32[]`` probability that a view is followed by another.
      leave: ``f32[]`` probability that it is followed by leaving.
    """

    vectors: Array
    bias: Array
    drift: Array
    stay: Array
    leave: Array


@struct.dataclass
class Browser:
    """A user who may be browsing, leaves ``[U, ...]``.

    Attributes:
      browses: ``bool[]`` whether a view follows.
      drifts: ``bool[]`` whether ``omega`` drifts before that view.
      omega: ``f32[K]`` what the user likes.
      observation: to which views are added.
      views: ``i32[]`` views so far.
      left: ``bool[]`` whether the user has left.
    """

    browses: Array
    drifts: Array
    omega: Array
    observation: Observation
    views: Array
    left: Array


def start(browses: Array, drifts: Array, omega: Array, observation: Observation) -> Browser:
    """One user, before the first view if there is one."""
    return Browser(browses, drifts, omega, observation, jnp.zeros((), jnp.int32), jnp.zeros((), bool))


def browse(key: Array, browser: Browser, organic: Organic) -> Browser:
    """One user at the end of an organic phase.

    Args:
      key: PRNG key of the phase.
      browser: before it.
      organic: what all users share.
    """
    one = jax.tree.map(lambda x: x[None], browser)
    return jax.tree.map(lambda x: x[0], _browse_all(key[None], one, organic))


def _in_rounds(keys: Array, browsers: Browser, organic: Organic) -> Browser:
    """Users ``[U, ...]`` at the end of their organic phases."""
    count = browsers.browses.shape[0]
    lanes = -(-count // LANES)

    def serve(browsers: Browser) -> Browser:
        (rows,) = jnp.nonzero(browsers.browses, size=lanes, fill_value=count)
        some = jax.tree.map(lambda x: x.at[rows].get(mode="clip"), browsers)
        viewed = jax.vmap(_view, in_axes=(0, 0, None))(keys.at[rows].get(mode="clip"), some, organic)
        return jax.tree.map(lambda x, y: x.at[rows].set(y, mode="drop", unique_indices=True), browsers, viewed)

    return jax.lax.while_loop(lambda browsers: jnp.any(browsers.browses), serve, browsers)


_browse_all = jax.custom_batching.custom_vmap(_in_rounds)


@_browse_all.def_vmap
def _(size: int, in_batched: list[Any], keys: Array, browsers: Browser, organic: Organic) -> tuple[Browser, Browser]:
    """Users of users, of seeds, are more users; where catalogues differ, each has rounds of its own."""
    batched = jax.tree.map(lambda _: True, browsers)
    if any(jax.tree.leaves(in_batched[2])):
        axes = jax.tree.map(lambda is_batched: 0 if is_batched else None, tuple(in_batched))
        return jax.vmap(_in_rounds, in_axes=axes)(keys, browsers, organic), batched

    def merge(is_batched: bool, x: Array) -> Array:
        whole = x if is_batched else jnp.broadcast_to(x, (size, *x.shape))
        return whole.reshape(-1, *whole.shape[2:])

    merged = _browse_all(*jax.tree.map(merge, tuple(in_batched[:2]), (keys, browsers)), organic)
    return jax.tree.map(lambda x: x.reshape(size, -1, *x.shape[1:]), merged), batched


def _view(key: Array, browser: Browser, organic: Organic) -> Browser:
    """One user after one view."""
    uniform_key, drift_key = jax.random.split(jax.random.fold_in(key, browser.views))
    block_u, item_u, next_u = jax.random.uniform(uniform_key, (3,))
    step = organic.drift * jax.random.normal(drift_key, browser.omega.shape)
    omega = jnp.where(browser.drifts, browser.omega + step, browser.omega)
    product = _draw(organic.vectors @ omega + organic.bias, block_u, item_u)
    view = jnp.asarray(int(Behaviour.VIEW))
    return Browser(
        browses=next_u < organic.stay,
        drifts=jnp.ones((), bool),
        omega=omega,
        observation=dynamics.append(browser.observation, product, view, jnp.ones((), bool)),
        views=browser.views + 1,
        left=next_u >= 1.0 - organic.leave,
    )


def _draw(logits: Array, block_u: Array, item_u: Array) -> Array:
    """An index drawn from the softmax of ``logits``: first its block, then its place in there.

    So the distribution function that is inverted has ``2 * sqrt(P)`` steps and not ``P``.
    """
    size = math.isqrt(logits.shape[0] - 1) + 1
    blocks = jnp.pad(logits, (0, -len(logits) % size), constant_values=-jnp.inf).reshape(-1, size)
    block = dynamics.pick(jax.nn.logsumexp(blocks, axis=1), block_u)
    return block * size + dynamics.pick(blocks[block], item_u)
