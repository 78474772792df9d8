"""VirtualTaobao: users made by a network, who answer vectors of weights with clicks on a page of products.

Three perceptrons were trained on a log of Taobao (Shi et al., AAAI 2019) and are brought by the user
(``taobao_networks.py``); between their layers lies ``max(h, 0.01 h)``.

* A user is ``z ~ U(0, 1)^128``, put through the generator; within each of 11 groups of its 88 outputs one category is
  drawn from the softmax, which makes ``u`` in {0, 1}^88.
* At turn ``t = 0, 1, ...`` the platform shows a vector ``a`` in [-1, 1]^27 (clipped to it). Of the outputs of the
  action network for ``(u, t, a)``, clicks 0 to 10 are drawn from the softmax of the first 11, and a page index 0 to 9
  from that of the other 10. The clicks are the reward.
* With ``leaving="cirs"`` the user leaves (terminated) if ``a`` is within ``threshold``, in Euclidean distance, of one
  of the last ``window - 1`` vectors; the clicks of that turn count. So do the users of CIRS (Gao et al., TOIS 2023).
* With ``leaving="session"`` the leave network draws from ``u``, on arrival, a number ``n`` of 0 to 100, and the user
  leaves after turn ``max(n, 1)``. So do those of VirtualTaobao itself.
* A session is cut (truncated) after ``max_steps`` turns.

``Observation.context: f32[91]`` is ``u``, clicks and page index of the last turn, and the turn ``t``; on arrival these
three are 0. There are no items: the catalogue has one, and histories are empty.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from recjax.data.named import PathLike
from recjax.envs.base import Environment, Transition, register
from recjax.envs.choice.dynamics import pick
from recjax.envs.sims.taobao_networks import (
    ACTION_SIZE,
    GROUPS,
    NOISE_SIZE,
    USER_SIZE,
    Networks,
    answers,
    draw_user,
    networks_of,
    perceptron,
    read_networks,
)
from recjax.envs.sims.taobao_oracles import keeps, oracles
from recjax.response import Response, Signal
from recjax.types import Array, Items, Observation, PyTree, Spec

CLICKS = Signal("clicks", "Clicks on a page of 10 products", unit="clicks")

Leave = Literal["cirs", "session"]


@struct.dataclass
class User:
    """The state of one user.

    Attributes:
      features: ``f32[88]``.
      recent: ``f32[window - 1, 27]`` the last vectors, the newest last.
      answer: ``f32[2]`` clicks and page index of the last turn.
      turn: ``i32[]`` turns so far.
      stay: ``i32[]`` turns after which the user leaves by the leave network.
    """

    features: Array
    recent: Array
    answer: Array
    turn: Array
    stay: Array


@dataclasses.dataclass(frozen=True)
class Rules:
    """What is fixed for all users; see :func:`virtual_taobao`."""

    leaving: Leave
    window: int
    threshold: float
    max_steps: int
    faithful: bool


@register("virtual_taobao")
def virtual_taobao(
    networks: Mapping[str, np.ndarray] | None = None,
    *,
    leaving: Leave = "cirs",
    window: int = 5,
    threshold: float = 3.0,
    max_steps: int = 50,
    faithful: bool = False,
    data_dir: PathLike | None = None,
) -> Environment:
    """VirtualTaobao's users, who answer vectors of 27 weights in [-1, 1] with 0 to 10 clicks.

    Users, clicks and session lengths come from three networks that were trained on a log of Taobao (Shi et al., AAAI
    2019). The context is the user's 88 features, the clicks and the page index of the last turn, and the turn.

    Args:
      networks: arrays named ``NETWORK.LAYER.weight`` (``f32[out, in]``) and ``NETWORK.LAYER.bias`` of the networks
        "generator", "leave" and "action"; by default the trained ones, which the user brings.
      leaving: "cirs": users leave when a vector is within ``threshold`` of one of the last ``window - 1``, as CIRS has
        it (Gao et al., TOIS 2023); "session": after a number of turns that the leave network draws on arrival.
      window: of "cirs", at least 1.
      threshold: of "cirs": a Euclidean distance, at least 0.
      max_steps: turns after which a session is cut.
      faithful: repeats what CIRS shows to policies: the user's features on arrival only, and later in their place the
        last vector (padded with zeros). By default the features stay, as in its mode ``static`` and in VirtualTaobao.
      data_dir: where data sets lie that the user brings. Default: ``RECJAX_DATA``.

    Returns:
      The environment; its reward is ``"clicks=1"``. ``oracles``: "constant", "myopic" and "look_ahead".

    Raises:
      ValueError: the file is not there, or an argument is out of range.
    """
    if leaving not in get_args(Leave):
        raise ValueError(f"leaving is {leaving!r}; choose one of {', '.join(get_args(Leave))}.")
    for name, value, low in (("window", window, 1), ("threshold", threshold, 0), ("max_steps", max_steps, 1)):
        if value < low:
            raise ValueError(f"{name} is {value}; it must be >= {low}.")
    params = networks_of(read_networks(data_dir) if networks is None else networks)
    rules = Rules(leaving, window, threshold, max_steps, faithful)
    return Environment(
        Spec(1, 1, 1, context_size=USER_SIZE + 3, action_size=ACTION_SIZE, signals=(CLICKS,)),
        params,
        Items(popularity=jnp.zeros(1), is_new=jnp.zeros(1, bool)),
        reset=partial(_reset, rules=rules),
        step=partial(_step, rules=rules),
        oracles=oracles(params, max_steps, threshold if leaving == "cirs" else None),
    )


def _reset(key: Array, params: Networks, world: PyTree, *, rules: Rules) -> tuple[Observation, User]:
    uniform = jax.random.uniform(key, (NOISE_SIZE + len(GROUPS) + 1,))
    features = draw_user(params, uniform[:-1])
    stay = jnp.int32(rules.max_steps)
    if rules.leaving == "session":
        stay = pick(perceptron(params.leave, features), uniform[-1]).astype(jnp.int32)
    user = User(
        features=features,
        recent=jnp.zeros((rules.window - 1, ACTION_SIZE)),
        answer=jnp.zeros(2),
        turn=jnp.zeros((), jnp.int32),
        stay=stay,
    )
    return _observe(user, features), user


def _step(key: Array, state: User, slate: Array, params: Networks, world: PyTree, *, rules: Rules) -> Transition:
    action = jnp.clip(slate, -1.0, 1.0)
    uniform = jax.random.uniform(key, (2,))
    clicks, page = (
        pick(logits, u) for logits, u in zip(answers(params, state.features, state.turn, action), uniform, strict=True)
    )
    after = User(
        features=state.features,
        recent=jnp.concatenate([state.recent, action[None]])[1:],
        answer=jnp.stack([clicks, page]).astype(jnp.float32),
        turn=state.turn + 1,
        stay=state.stay,
    )
    if rules.leaving == "session":
        terminated = after.turn >= state.stay
    else:
        terminated = ~keeps(action[None], state.recent, state.turn, rules.threshold)[0]
    truncated = (after.turn >= rules.max_steps) & ~terminated
    shown = jnp.pad(action, (0, USER_SIZE - ACTION_SIZE)) if rules.faithful else state.features
    response = Response(clicks=clicks[None].astype(jnp.float32))
    return Transition(_observe(after, shown), after, response, terminated, truncated, {"page": after.answer[1]})


def _observe(user: User, shown: Array) -> Observation:
    turn = user.turn[None].astype(jnp.float32)
    empty = Spec(1, 1, 1).empty_observation()
    return dataclasses.replace(empty, context=jnp.concatenate([shown, user.answer, turn]))
