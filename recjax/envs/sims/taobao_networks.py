"""The three perceptrons of VirtualTaobao: who the users are, what they answer, how long they stay."""

from __future__ import annotations

import re
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from recjax.data.named import PathLike
from recjax.data.sources import LocalFile, brought
from recjax.envs.choice.dynamics import pick
from recjax.types import Array

GROUPS = (8, 8, 11, 11, 11, 11, 2, 2, 3, 18, 3)
"""Categories of each feature of a user."""

NOISE_SIZE, USER_SIZE, ACTION_SIZE = 128, sum(GROUPS), 27
CLICKS, PAGES, SESSIONS = 11, 10, 101
"""Classes: 0 to 10 clicks, page indices 0 to 9, sessions of 0 to 100 turns."""

SIZES = {
    "generator": (NOISE_SIZE, USER_SIZE),
    "leave": (USER_SIZE, SESSIONS),
    "action": (USER_SIZE + 1 + ACTION_SIZE, CLICKS + PAGES),
}
"""Numbers that go into each network, and numbers that come out."""

FILE = LocalFile("networks.npz", "b24661adbf349953ab84a8b247ce431e4c9e580d23b3eb404cc5f089cd879365")

_START = np.cumsum((0, *GROUPS[:-1]))
_PLACE = np.arange(max(GROUPS)) + _START[:, None]
_INSIDE = np.arange(max(GROUPS)) < np.array(GROUPS)[:, None]

Layers = tuple[tuple[Array, Array], ...]
"""Weights ``f32[in, out]`` and biases ``f32[out]``, in order."""


@struct.dataclass
class Networks:
    """The layers of each network."""

    generator: Layers
    leave: Layers
    action: Layers


def read_networks(data_dir: PathLike | None = None) -> dict[str, np.ndarray]:
    """The trained networks from the user's folder ``virtualtaobao``, as :func:`networks_of` takes them.

    Raises:
      ValueError: the file is not there, or has other content.
    """
    with np.load(brought("virtualtaobao", (FILE,), data_dir)[FILE.name], allow_pickle=False) as file:
        return dict(file)


def networks_of(arrays: Mapping[str, np.ndarray]) -> Networks:
    """Networks from arrays named ``NETWORK.LAYER.weight`` (``f32[out, in]``) and ``NETWORK.LAYER.bias``.

    Raises:
      ValueError: a network is missing, or its layers do not fit together.
    """
    found = {name: _layers(arrays, name) for name in SIZES}
    for name, layers in found.items():
        widths = [layers[0][0].shape[0], *(weight.shape[1] for weight, _ in layers)] if layers else []
        fits = all(
            weight.shape == (width, after) and bias.shape == (after,)
            for (weight, bias), width, after in zip(layers, widths, widths[1:], strict=False)
        )
        if not layers or not fits or (widths[0], widths[-1]) != SIZES[name]:
            raise ValueError(
                f"The network {name!r} has widths {widths}; it needs arrays {name}.LAYER.weight [out, in] and"
                f" {name}.LAYER.bias [out], with {SIZES[name][0]} numbers in and {SIZES[name][1]} out."
            )
    return Networks(**found)


def _layers(arrays: Mapping[str, np.ndarray], network: str) -> Layers:
    numbers = sorted(int(n[1]) for key in arrays if (n := re.fullmatch(rf"{network}\.(\d+)\.weight", key)))
    return tuple(
        (
            jnp.asarray(np.asarray(arrays[f"{network}.{number}.weight"]).T, jnp.float32),
            jnp.asarray(arrays[f"{network}.{number}.bias"], jnp.float32),
        )
        for number in numbers
    )


def perceptron(layers: Layers, x: Array) -> Array:
    """The outputs ``f32[out]`` of a network for ``x: f32[in]``, with ``max(h, 0.01 h)`` between layers."""
    for number, (weight, bias) in enumerate(layers):
        x = x @ weight + bias
        if number < len(layers) - 1:
            x = jax.nn.leaky_relu(x, 0.01)
    return x


def draw_user(networks: Networks, uniform: Array) -> Array:
    """A user ``f32[88]`` of zeros and ones, from ``uniform: f32[139]`` numbers in [0, 1)."""
    logits = perceptron(networks.generator, uniform[:NOISE_SIZE])
    of_group = jnp.where(_INSIDE, logits[jnp.where(_INSIDE, _PLACE, 0)], -jnp.inf)
    category = _START + pick(of_group, uniform[NOISE_SIZE:])
    return jnp.any(jnp.arange(USER_SIZE)[None] == category[:, None], axis=0).astype(jnp.float32)


def answers(networks: Networks, user: Array, turn: Array, action: Array) -> tuple[Array, Array]:
    """Logits of the clicks ``f32[11]`` and of the page index ``f32[10]`` at a turn ``i32[]``."""
    outputs = perceptron(networks.action, jnp.concatenate([user, turn[None].astype(jnp.float32), action]))
    return outputs[:CLICKS], outputs[CLICKS:]


def expected_clicks(networks: Networks, user: Array, turn: Array, actions: Array) -> Array:
    """Of each of ``actions: f32[P, 27]``, ``f32[P]``."""
    logits, _ = jax.vmap(answers, in_axes=(None, None, None, 0))(networks, user, turn, actions)
    return jax.nn.softmax(logits) @ jnp.arange(CLICKS, dtype=jnp.float32)
