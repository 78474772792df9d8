"""RecoGym: people browse products by themselves, and now and then are recommended one."""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from recjax.catalogue import ItemIndex, argmax
from recjax.envs.base import Environment, Oracle, Transition, register
from recjax.envs.choice import dynamics
from recjax.envs.sims.recogym_browsing import Organic, browse, start
from recjax.response import CLICK, Response
from recjax.types import Array, Behaviour, Items, Observation, PyTree, Revealed, Spec

POPULARITY_SCALE = 3.0
"""Standard deviation of organic popularity over products, a logit."""

OBSERVERS = 1000
"""Users whose tastes popularity is averaged over."""


@dataclasses.dataclass(frozen=True)
class RecogymSetting:
    """The numbers of RecoGym; the defaults are those of the original.

    Attributes:
      factors: width of tastes.
      flips: pairs of products that swap what recommending them does.
      taste_scale: standard deviation of tastes at arrival.
      drift: standard deviation of the drift of tastes.
      organic_to_bandit: probability that a view ends the organic phase, above 0.
      bandit_to_organic: probability that browsing follows a recommendation without a click.
      leave_organic: probability that the user leaves after a view.
      leave_bandit: probability that the user leaves after a recommendation without a click.

    Raises:
      ValueError: a value is out of range.
    """

    factors: int = 5
    flips: int = 0
    taste_scale: float = 1.0
    drift: float = 0.1
    organic_to_bandit: float = 0.25
    bandit_to_organic: float = 0.05
    leave_organic: float = 0.01
    leave_bandit: float = 0.01

    def __post_init__(self) -> None:
        for name, fine, wanted in (
            ("factors", self.factors >= 1, ">= 1"),
            ("flips", self.flips >= 0, ">= 0"),
            ("taste_scale", self.taste_scale >= 0, ">= 0"),
            ("drift", self.drift >= 0, ">= 0"),
            ("organic_to_bandit", 0 < self.organic_to_bandit <= 1, "in (0, 1]"),
            ("leave_organic", 0 <= self.leave_organic <= 1 - self.organic_to_bandit, "in [0, 1 - organic_to_bandit]"),
            ("bandit_to_organic", 0 <= self.bandit_to_organic <= 1, "in [0, 1]"),
            ("leave_bandit", 0 <= self.leave_bandit <= 1 - self.bandit_to_organic, "in [0, 1 - bandit_to_organic]"),
        ):
            if not fine:
                raise ValueError(f"RecogymSetting.{name} is {getattr(self, name)}; it must be {wanted}.")


@struct.dataclass
class Params:
    """What all users of RecoGym share.

    Attributes:
      organic: what they look at by themselves.
      vectors: ``f32[P, K]`` vectors of products that are recommended.
      bias: ``f32[P]`` their logits.
      taste_scale: ``f32[]`` standard deviation of ``omega`` at arrival.
      browse: ``f32[]`` probability that a user browses after a recommendation that was not clicked.
      leave: ``f32[]`` probability that they leave.
    """

    organic: Organic
    vectors: Array
    bias: Array
    taste_scale: Array
    browse: Array
    leave: Array


@struct.dataclass
class User:
    """The state of one user. Only ``observation`` is for policies.

    Attributes:
      observation: views, and recommendations with and without a click.
      omega: ``f32[K]`` what the user likes.
    """

    observation: Observation
    omega: Array


@register("recogym")
def recogym(
    *,
    num_items: int = 100,
    history_length: int = 50,
    setting: RecogymSetting | None = None,
    faithful: bool = False,
    key: Array | None = None,
) -> Environment:
    """Users who browse products, are recommended one at a time, and leave.

    Version 1 of RecoGym. With the names of :class:`recjax.envs.RecogymSetting`, products have vectors ``g_i ~ N(0, 1)``
    of ``factors`` numbers and a popularity ``m_i ~ N(0, 3)``; a user has ``omega ~ N(0, taste_scale)`` and is in one of
    two phases (the second argument of ``N`` is a standard deviation):

    * organic: the user views a product drawn from ``softmax(<g_i, omega> + m_i)``. Another view follows with
      probability ``1 - organic_to_bandit - leave_organic``, and before it ``omega`` moves by ``N(0, drift)``;
    * bandit: a product ``a`` is recommended, and clicked with probability ``link(<b_a, omega> + n_a)``, where
      ``link(x) = sigmoid(5 sigmoid(2 sigmoid(.3 x) - 2) - 6)`` lies between .00448 and .02931. Then the user browses
      with probability ``bandit_to_organic`` (``omega`` moves first), leaves with ``leave_bandit``, or waits for the
      next recommendation. Whoever clicks browses in any case, even where they would have left.

    Recommendation and browsing agree, ``b = g`` and ``n = m``, but for ``flips`` pairs of products: of all pairs by
    falling ``<g_i, g_j>``, the first that share no product swap their ``b`` and ``n``.

    A step is a recommendation and the organic phase that follows it, if any. Whoever arrives has just browsed; in the
    original one user in 26 leaves before anything is recommended to them, and does not arrive here. Nobody is cut off.
    An ``Observation`` has views, clicked recommendations, and impressions that were not clicked. A view scores every
    product, by definition; nothing else does.

    ``faithful=True`` repeats what the original's code does:

    * a bandit phase ends in leaving with ``leave_organic``; ``leave_bandit`` is not read. By default they are the same;
    * a product may be paired with itself, which flips nothing, once no pair has a positive product.

    Options of the original that are off by default are left out: drift in bandit phases, normalised vectors, and
    clocks other than one tick an event.

    Args:
      num_items: products; 10 by default in the original.
      history_length: positions of a history.
      setting: the numbers above; those of the original if None.
      faithful: see above.
      key: PRNG key of the products; ``jax.random.key(0)`` by default.

    Returns:
      The environment. Its one oracle, "myopic", recommends what is clicked most probably, and no policy is known to be
      better: with these defaults a click costs less than .07 later ones, since browsing may end in leaving.

    Raises:
      ValueError: an argument is out of range.

    References:
      Rohde, Bonner, Dunlop, Vasile, Karatzoglou, "RecoGym: A Reinforcement Learning Environment for the problem of
      Product Recommendation in Online Advertising", 2018; its code, https://github.com/criteo-research/reco-gym.

    >>> env = recogym()
    >>> observation, state = jax.jit(env.reset)(jax.random.key(1), env.params, None)
    >>> after = jax.jit(env.step)(jax.random.key(2), state, jnp.array([7]), env.params, None)
    >>> after.response["click"].shape
    (1,)
    """
    chosen = RecogymSetting() if setting is None else setting
    if 2 * chosen.flips > num_items:
        raise ValueError(f"RecogymSetting.flips is {chosen.flips}, but {num_items} items make {num_items // 2} pairs.")
    spec = Spec(num_items, 1, history_length, has_impressions=True, signals=(CLICK,))
    # Built once, so on the host: there is no program to compile for each size of catalogue.
    rng = np.random.default_rng(np.asarray(jax.random.key_data(jax.random.key(0) if key is None else key)))
    vectors, bias = rng.normal(size=(num_items, chosen.factors)), POPULARITY_SCALE * rng.normal(size=num_items)
    recommended = _flipped(vectors, chosen.flips, faithful=faithful) if chosen.flips else np.arange(num_items)
    numbers = partial(jnp.asarray, dtype=jnp.float32)
    params = Params(
        organic=Organic(
            vectors=numbers(vectors),
            bias=numbers(bias),
            drift=numbers(chosen.drift),
            stay=numbers(1.0 - chosen.organic_to_bandit - chosen.leave_organic),
            leave=numbers(chosen.leave_organic),
        ),
        vectors=numbers(vectors[recommended]),
        bias=numbers(bias[recommended]),
        taste_scale=numbers(chosen.taste_scale),
        browse=numbers(chosen.bandit_to_organic),
        leave=numbers(chosen.leave_organic if faithful else chosen.leave_bandit),
    )
    popularity = _popularity(rng, vectors, bias, chosen.taste_scale)
    items = Items(popularity=numbers(popularity), is_new=jnp.zeros(num_items, bool))
    doc = "the product that is clicked most probably, by true taste; no policy is known to be better"
    return Environment(
        spec, params, items, partial(_reset, spec=spec), _step, oracles={"myopic": Oracle(_most_clicked, doc)}
    )


def link(logit: Array) -> Array:
    """Probability of a click, between .00448 and .02931."""
    return jax.nn.sigmoid(5.0 * jax.nn.sigmoid(2.0 * jax.nn.sigmoid(0.3 * logit) - 2.0) - 6.0)


def _flipped(vectors: np.ndarray, flips: int, *, faithful: bool) -> np.ndarray:
    """``i64[P]``: whose vector each product has when it is recommended."""
    index, used = np.arange(len(vectors)), np.zeros(len(vectors), bool)
    first, second = np.triu_indices(len(vectors), k=0 if faithful else 1)
    products = np.where(first == second, 0.0, np.sum(vectors[first] * vectors[second], axis=1))
    for pair in np.argsort(-products, kind="stable"):
        i, j = first[pair], second[pair]
        if used[i] or used[j]:
            continue
        index[i], index[j] = j, i
        used[[i, j]] = True
        flips -= 1
        if not flips:
            break
    return index


def _popularity(rng: np.random.Generator, vectors: np.ndarray, bias: np.ndarray, taste_scale: float) -> np.ndarray:
    """``f64[P]``: share of each product of the views of users who have just arrived."""
    logits = taste_scale * rng.normal(size=(OBSERVERS, vectors.shape[1])) @ vectors.T + bias
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.mean(weights / weights.sum(axis=1, keepdims=True), axis=0)


def _reset(key: Array, params: Params, world: PyTree, *, spec: Spec) -> tuple[Observation, User]:
    taste_key, browse_key = jax.random.split(key)
    omega = params.taste_scale * jax.random.normal(taste_key, params.vectors.shape[1:])
    yes, no = jnp.ones((), bool), jnp.zeros((), bool)
    # How a phase ends does not depend on what came before, so whoever would have left is taken to stay.
    arrived = browse(browse_key, start(yes, no, omega, spec.empty_observation()), params.organic)
    return arrived.observation, User(arrived.observation, arrived.omega)


def _step(key: Array, state: User, slate: Array, params: Params, world: PyTree) -> Transition:
    uniform_key, browse_key = jax.random.split(key)
    click_u, next_u = jax.random.uniform(uniform_key, (2,))
    product = slate[0]
    shown = (product >= 0) & (product < params.bias.shape[0])
    rate = jnp.where(shown, link(params.vectors[product] @ state.omega + params.bias[product]), 0.0)
    click = click_u < rate
    behaviour = jnp.where(click, int(Behaviour.CLICK), int(Behaviour.IMPRESSION))
    observation = dynamics.append(state.observation, product, behaviour, shown)

    browses, leaves = next_u < params.browse, next_u >= 1.0 - params.leave
    after = browse(browse_key, start(browses | click, browses, state.omega, observation), params.organic)
    return Transition(
        observation=after.observation,
        state=User(after.observation, after.omega),
        response=Response(click=click.astype(jnp.float32)[None]),
        terminated=after.left | (leaves & ~click),
        truncated=jnp.zeros((), bool),
        info={"click_probability": rate, "views": after.views.astype(jnp.float32)},
    )


def _most_clicked(key: Array, users: Revealed, setting: None) -> Array:
    params = users.params
    return argmax(users.state.omega, ItemIndex(params.vectors, params.bias))[:, None]
