"""A shop: products are viewed, put into the cart and bought; prices deter, stock runs out, and what is bought is had.

Choice, boredom, slow satisfaction and leaving are those of :mod:`recjax.envs.choice.dynamics`. With the attraction
``a_j`` of a product, bait and price aside, and its price ``p_j``:

* prices: ``r_j = log(p_j / median_price)`` is normal with mean 0 and standard deviation ``price_spread``, whatever the
  product;
* a visitor's sensitivity to prices ``t`` is log-normal with median ``price_sensitivity`` and standard deviation
  ``sensitivity_spread`` of its logarithm;
* value for money ``y_j = sigmoid(a_j - t * r_j)``, which the visitor weighs after the click, not before;
* what is clicked is put into the cart with probability ``cart_rate * y_j`` if it is in stock, and what is in the cart
  is bought with probability ``checkout_rate``; revenue is the price of what is bought;
* satisfaction with a click is ``y_j``, and 0 where the product is sold out, which the visitor sees after the click;
* who has bought a thing needs no other of its kind: the memory of topics moves to ``(1 - need_met) m + need_met z_j``
  in the place of the usual step.

Stock is of all visitors. Each product begins with ``stock`` units for a thousand visitors, so that it lasts as long
however many are simulated; one of ``U`` visitors who buys takes ``1000 / U`` units. Who buys the last one in the same
step gets it, too. Every ``restock_steps`` steps a product is filled up again, product ``i`` first at step ``i`` modulo
``restock_steps``. A recommender is not told what is in stock; oracles are.

All numbers are chosen for plausibility. At most one click in four is a purchase. Three products in four cost between
half and twice the median. At a sensitivity of 1.5 a well-liked product (``a_j`` of 1 to 2) at twice the median price is
bought two thirds to four fifths as often, so that it brings more and satisfies less.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct

from recjax.envs.base import Environment, Transition, register
from recjax.envs.choice import dynamics
from recjax.envs.choice.oracles import STILL, LookAhead, appraisal, wary
from recjax.envs.choice.parameters import INF, declare
from recjax.envs.choice.planning import Appraisal, grid, yardsticks
from recjax.envs.choice.response_model import ResponseModel, as_arrays
from recjax.envs.presets.parts import standardised
from recjax.envs.sims import population
from recjax.envs.sims.synthetic import synthetic
from recjax.response import CLICK, CONVERSION, SATISFACTION, Response, Signal
from recjax.types import PAD_ID, Array, Behaviour, Observation, Step

CART = Signal("cart", "1 where a click was put into the cart", is_flag=True)
REVENUE = Signal("revenue", "Price of what was bought, 0 where nothing was", unit="currency")
VISITORS = ResponseModel(
    no_click_logit=2.0, bait=1.0, boredom_weight=3.0, satisfaction_rate=0.3, leave_base=0.005, leave_slope=0.15
)
"""How these users respond unless told otherwise: they choose and judge sooner than the default, and leave sooner."""

SATISFACTION_WORTH = (0.0, 15.0, 30.0, 60.0, 120.0, 240.0)
"""Prices of slow satisfaction that are searched, in units of currency."""

BOREDOM_WEIGHT = (1.0, 1.5)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Shop:
    """The declared parameters of a shop."""

    median_price: float = declare(30.0, 1e-3, INF, "Median price of a product, in units of currency.")
    price_spread: float = declare(0.6, 0.0, INF, "Standard deviation of the logarithm of prices.")
    price_sensitivity: float = declare(
        1.5, 0.0, INF, "Logits of attraction that a median visitor loses where the logarithm of the price rises by 1."
    )
    sensitivity_spread: float = declare(
        0.5, 0.0, INF, "Standard deviation over visitors of the logarithm of their sensitivity to prices."
    )
    cart_rate: float = declare(
        0.5, 0.0, 1.0, "Probability that a click on a perfectly attractive product in stock puts it into the cart."
    )
    checkout_rate: float = declare(0.5, 0.0, 1.0, "Probability that what is put into the cart is bought.")
    need_met: float = declare(
        0.6, 0.0, 1.0, "How far a purchase moves the memory of topics: at 0.6 its kind is mostly done with for a while."
    )
    stock: float = declare(20.0, 0.0, INF, "Units of each product for a thousand visitors when it is filled up.")
    restock_steps: float = declare(20.0, 1.0, INF, "Steps after which a product is filled up again.")


@struct.dataclass
class Params(population.Params):
    """What all visitors share; in addition the declared shop, and ``f32[N]`` prices."""

    shop: Shop
    price: Array


@struct.dataclass
class Visitor:
    """One visitor.

    Attributes:
      user: as everywhere.
      sensitivity: ``f32[]`` logits lost per unit of log price.
    """

    user: dynamics.User
    sensitivity: Array


@struct.dataclass
class Warehouse:
    """What changes for all visitors.

    Attributes:
      stock: ``f32[N]`` units for a thousand visitors, at least 0.
      step: ``i32[]``.
    """

    stock: Array
    step: Array


@register("ecommerce")
def ecommerce(
    *,
    num_items: int = 1000,
    slate_size: int = 5,
    history_length: int = 20,
    shop: Shop | None = None,
    response_model: ResponseModel | None = None,
    key: Array | None = None,
) -> Environment:
    """Visitors of a shop; the reward that it is made for is "revenue".

    Items have the features "genres" and "price" (its logarithm, standardised). Histories hold what was clicked, as
    CLICK, CART or PURCHASE; those of arriving visitors are drawn as in :func:`recjax.envs.synthetic`.

    Args:
      num_items: products in the catalogue.
      slate_size: slots of a slate.
      history_length: positions of a history.
      shop: prices, funnel and stock; the defaults of ``Shop`` if None.
      response_model: how visitors choose, tire and leave; ``conversion_rate`` is not read. :data:`VISITORS` if None.
      key: PRNG key of the catalogue; ``jax.random.key(0)`` by default.

    Raises:
      ValueError: an argument is out of range.

    >>> env = ecommerce(num_items=100, slate_size=3)
    >>> env.world(jax.random.key(1)).stock[:2].tolist()
    [20.0, 20.0]
    """
    key = jax.random.key(0) if key is None else key
    shop = as_arrays(Shop() if shop is None else shop)
    base = synthetic(
        num_items=num_items,
        slate_size=slate_size,
        history_length=history_length,
        response_model=VISITORS if response_model is None else response_model,
        key=key,
    )
    deviation = shop.price_spread * jax.random.normal(jax.random.fold_in(key, 1), (num_items,))

    def reset(key: Array, params: Params, world: Warehouse) -> tuple[Observation, Visitor]:
        user_key, own_key = jax.random.split(key)
        observation, user = base.reset(user_key, params, world)
        noise = jax.random.normal(own_key)
        sensitivity = params.shop.price_sensitivity * jnp.exp(params.shop.sensitivity_spread * noise)
        return observation, Visitor(user, sensitivity)

    return Environment(
        spec=dataclasses.replace(base.spec, signals=(CLICK, CART, CONVERSION, REVENUE, SATISFACTION)),
        params=Params(**vars(base.params), shop=shop, price=shop.median_price * jnp.exp(deviation)),
        items=base.items.with_features(price=standardised(deviation)),
        reset=reset,
        step=_step,
        init_world=_open,
        tick=_tick,
        oracles=yardsticks(
            _appraise,
            slate_size,
            STILL,
            grid(LookAhead, satisfaction_worth=SATISFACTION_WORTH, boredom_weight=BOREDOM_WEIGHT),
            "where satisfaction has a price and boredom more weight",
        ),
    )


def _open(key: Array, params: Params) -> Warehouse:
    del key
    return Warehouse(jnp.full_like(params.price, params.shop.stock), jnp.zeros((), jnp.int32))


def _tick(key: Array, world: Warehouse, step: Step, params: Params) -> Warehouse:
    """Purchases lower the stock, and products whose turn it is are filled up."""
    del key
    visitors = step.slate.shape[0]
    taken = step.response["conversion"] * (1000.0 / visitors)
    # No slot is sold that holds no item; row N takes what is written for those.
    slots = jnp.where(step.slate == PAD_ID, world.stock.shape[0], step.slate)
    left = jnp.maximum(world.stock.at[slots].add(-taken, mode="drop"), 0.0)
    period = jnp.asarray(params.shop.restock_steps, jnp.int32)
    filled = jnp.arange(left.shape[0]) % period == world.step % period
    return Warehouse(jnp.where(filled, params.shop.stock, left), world.step + 1)


def _value_for_money(visitor: Visitor, attraction: Array, items: Array, params: Params, world: Warehouse) -> Array:
    """Satisfaction with each of these, ``f32[K]``; 0 where it is sold out."""
    dear = jnp.log(params.price[items] / params.shop.median_price)
    return jnp.where(world.stock[items] > 0, jax.nn.sigmoid(attraction - visitor.sensitivity * dear), 0.0)


def _step(key: Array, state: Visitor, slate: Array, params: Params, world: Warehouse) -> Transition:
    shop, model, factors = params.shop, params.response_model, params.factors
    choice_u, cart_u, checkout_u, leave_u = jax.random.uniform(key, (4,))
    attraction = dynamics.attraction(state.user, slate, model, factors)
    appeal = attraction + model.bait * factors.bait[slate]
    choice = dynamics.choose(choice_u, appeal, slate, factors.bias.shape[0], model)

    value = _value_for_money(state, attraction, slate, params, world)
    pleasure = jnp.where(choice.click, value, 0.0)
    cart = cart_u < shop.cart_rate * pleasure
    bought = cart & (checkout_u < shop.checkout_rate)
    response = Response(
        click=choice.click.astype(jnp.float32),
        cart=cart.astype(jnp.float32),
        conversion=bought.astype(jnp.float32),
        revenue=jnp.where(bought, params.price[slate], 0.0),
        satisfaction=pleasure,
    )
    topic = factors.topics[choice.item]
    after = dynamics.settle(state.user, choice, topic, jnp.sum(pleasure), model)
    behaviour = jnp.where(jnp.any(cart), int(Behaviour.CART), int(Behaviour.CLICK))
    behaviour = jnp.where(jnp.any(bought), int(Behaviour.PURCHASE), behaviour)
    observation = dynamics.append(state.user.observation, choice.item, behaviour, choice.happened)
    had = (1.0 - shop.need_met) * state.user.memory + shop.need_met * topic
    after = dataclasses.replace(after, observation=observation, memory=jnp.where(jnp.any(bought), had, after.memory))
    terminated, truncated = dynamics.ends(leave_u, after, model)
    info = {"user_satisfaction": after.satisfaction}
    return Transition(observation, Visitor(after, state.sensitivity), response, terminated, truncated, info)


def _appraise(visitor: Visitor, params: Params, world: Warehouse, plan: LookAhead) -> Appraisal:
    model, factors = wary(params.response_model, plan), params.factors
    items = jnp.arange(factors.bias.shape[0])
    attraction = dynamics.attraction(visitor.user, items, model, factors)
    pleasure = _value_for_money(visitor, attraction, items, params, world)
    revenue = params.price * params.shop.cart_rate * params.shop.checkout_rate * pleasure
    return appraisal(visitor.user, attraction + model.bait * factors.bait, revenue, pleasure, model, plan)
