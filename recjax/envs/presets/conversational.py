"""A conversation: at each turn an item is shown or a question is asked, until the user takes an item or gives up.

A user has a wish ``w``: for each attribute 1 (must have), -1 (must not) or 0 (does not matter), the first two with
probability ``care / 2`` each. With ``x_i`` in {-1, 1} for what item ``i`` has and has not:

* fit ``f_i = sum_g w_g x_ig / max(1, sum_g |w_g|)``, 1 where everything is as wished;
* an item that is shown is taken with probability ``sigmoid(sharpness * (f_i - bar))``, and the conversation ends;
* otherwise the user criticises it with probability ``critique_rate``: one of the attributes that are not as wished,
  each as likely as the others;
* a question about an attribute is answered with probability ``answer_rate``;
* after a turn in which nothing was taken the user gives up with probability ``item_patience`` or
  ``question_patience``, and after ``max_turns`` the conversation is cut.

Answers and critiques are true. Questions cost less patience than items that are not wanted, but take no item: how much
to ask before showing something is what there is to decide.

Attributes are fair coins. All numbers are chosen for plausibility; that critiques and questions are actions beside
items follows Christakopoulou et al., "Towards conversational recommender systems", KDD 2016, and Sun and Zhang,
"Conversational recommender system", SIGIR 2018.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct

from recjax.envs.base import Environment, Oracle, Transition, register
from recjax.envs.choice import dynamics
from recjax.envs.choice.parameters import INF, declare
from recjax.envs.choice.response_model import as_arrays
from recjax.response import CLICK, Response, Signal
from recjax.types import PAD_ID, Array, Behaviour, Feature, Items, Observation, PyTree, Revealed, Spec

QUESTION = Signal("question", "1 where a question was asked", is_flag=True)
CRITIQUE = Signal("critique", "1 where an item was criticised", is_flag=True)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Dialogue:
    """The declared parameters of a conversation."""

    care: float = declare(0.7, 0.0, 1.0, "Probability that an attribute matters to a user.")
    sharpness: float = declare(10.0, 0.0, INF, "Logits of taking an item where its fit rises by 1.")
    bar: float = declare(0.8, -1.0, 1.0, "Fit of an item that is taken as often as not.")
    critique_rate: float = declare(0.5, 0.0, 1.0, "Probability that an item that is not taken is criticised.")
    answer_rate: float = declare(0.9, 0.0, 1.0, "Probability that a question is answered.")
    item_patience: float = declare(0.15, 0.0, 1.0, "Probability of giving up after an item that was not taken.")
    question_patience: float = declare(0.05, 0.0, 1.0, "Probability of giving up after a question.")
    max_turns: float = declare(30.0, 1.0, INF, "Turns after which a conversation is cut.")


@struct.dataclass
class Params:
    """What all users share: the declared dialogue, and ``f32[N, A]`` what items have (1) and have not (-1).

    In the rows of questions a 1 stands for what is asked, and the rest is 0.
    """

    dialogue: Dialogue
    attributes: Array


@struct.dataclass
class Seeker:
    """One user: ``f32[A]`` the wish, what the platform sees, and ``i32[]`` turns so far."""

    wish: Array
    observation: Observation
    turns: Array


@register("conversational")
def conversational(
    *,
    num_items: int = 500,
    attributes: int = 12,
    history_length: int = 30,
    dialogue: Dialogue | None = None,
    key: Array | None = None,
) -> Environment:
    """Users who want something and can be asked; the reward that it is made for is "click", an item that is taken.

    The catalogue holds the items and, after them, one question for each attribute: ``num_items + attributes`` ids.
    Items have the features "attributes" (of a question the one that it asks about) and "question" (whether it is one).
    The context holds what was said: for each attribute whether it was spoken of, and after these the wishes that were
    told (0 elsewhere). Histories hold what was shown and asked as VIEW, and what was taken as PURCHASE.

    The oracles ``myopic`` and ``look_ahead`` know the rules, and of a user what was said; ``revealed`` knows the wish.

    Args:
      num_items: items without the questions.
      attributes: ``A``.
      history_length: positions of a history.
      dialogue: the declared parameters; the defaults of ``Dialogue`` if None.
      key: PRNG key of the attributes; ``jax.random.key(0)`` by default.

    Raises:
      ValueError: an argument is out of range.

    >>> env = conversational(num_items=50, attributes=6)
    >>> env.spec.num_items, env.spec.context_size
    (56, 12)
    """
    for name, value in (("num_items", num_items), ("attributes", attributes)):
        if value < 1:
            raise ValueError(f"conversational got {name}={value}; it needs at least one item and one attribute.")
    total = num_items + attributes
    signals = (CLICK, QUESTION, CRITIQUE)
    spec = Spec(total, 1, history_length, context_size=2 * attributes, signals=signals)
    has = jax.random.bernoulli(jax.random.key(0) if key is None else key, 0.5, (num_items, attributes))
    asked = jnp.eye(attributes)
    is_question = jnp.arange(total) >= num_items
    items = Items(
        popularity=(~is_question).astype(jnp.float32),
        is_new=jnp.zeros(total, bool),
        features={
            "attributes": Feature(jnp.concatenate([has.astype(jnp.float32), asked]), "multi_hot"),
            "question": Feature(is_question[:, None].astype(jnp.float32), "multi_hot"),
        },
    )
    params = Params(
        dialogue=as_arrays(Dialogue() if dialogue is None else dialogue),
        attributes=jnp.concatenate([jnp.where(has, 1.0, -1.0), asked]),
    )

    def reset(key: Array, params: Params, world: PyTree) -> tuple[Observation, Seeker]:
        draw, care = jax.random.uniform(key, (attributes,)), params.dialogue.care
        wish = (draw < care / 2).astype(jnp.float32) - ((draw >= care / 2) & (draw < care)).astype(jnp.float32)
        observation = spec.empty_observation()
        return observation, Seeker(wish, observation, jnp.zeros((), jnp.int32))

    return Environment(spec, params, items, reset, _step, oracles=_oracles(num_items, attributes))


def _step(key: Array, state: Seeker, slate: Array, params: Params, world: PyTree) -> Transition:
    del world
    own, attributes = params.dialogue, state.wish.shape[0]
    taken_u, said_u, which_u, leave_u = jax.random.uniform(key, (4,))
    act = slate[0]
    shown = (act >= 0) & (act < params.attributes.shape[0])
    is_question = shown & (act >= params.attributes.shape[0] - attributes)
    is_item = shown & ~is_question
    agreement = state.wish * params.attributes[act]
    fit = jnp.sum(agreement) / jnp.maximum(1.0, jnp.sum(jnp.abs(state.wish)))
    taken = is_item & (taken_u < jax.nn.sigmoid(own.sharpness * (fit - own.bar)))

    minded = agreement < 0
    critique = is_item & ~taken & jnp.any(minded) & (said_u < own.critique_rate)
    answered = is_question & (said_u < own.answer_rate)
    # Where nothing is minded the draw means nothing, and no logit may be infinite.
    pick = dynamics.pick(jnp.where(minded, 0.0, -1e9), which_u)
    topic = jnp.where(is_question, act - (params.attributes.shape[0] - attributes), pick)
    observation = _hear(state, topic, critique | answered)
    behaviour = jnp.where(taken, int(Behaviour.PURCHASE), int(Behaviour.VIEW))
    observation = dynamics.append(observation, act, behaviour, shown)

    after = Seeker(state.wish, observation, state.turns + 1)
    gives_up = leave_u < jnp.where(is_question, own.question_patience, own.item_patience)
    terminated = taken | gives_up
    truncated = (after.turns >= own.max_turns) & ~terminated
    flags = {"click": taken, "question": is_question, "critique": critique}
    response = Response(**{name: flag[None].astype(jnp.float32) for name, flag in flags.items()})
    return Transition(observation, after, response, terminated, truncated, {"fit": jnp.where(is_item, fit, 0.0)})


def _hear(seeker: Seeker, attribute: Array, said: Array) -> Observation:
    """The observation once the wish for an attribute is told, where it was ``said``."""
    assert seeker.observation.context is not None
    is_spoken, told = jnp.split(seeker.observation.context, 2)
    here = said & (jnp.arange(seeker.wish.shape[0]) == attribute)
    context = jnp.concatenate([jnp.where(here, 1.0, is_spoken), jnp.where(here, seeker.wish, told)])
    return dataclasses.replace(seeker.observation, context=context)


def _oracles(num_items: int, attributes: int) -> dict[str, Oracle]:
    def best(wishes: Array, users: Revealed) -> Array:
        """``i32[B]``: the item that agrees most with wishes ``f32[B, A]`` and was not shown before."""
        agreement = wishes @ users.params.attributes[:num_items].T
        unshown = lambda row, history: row.at[history].set(-jnp.inf, mode="drop")  # noqa: E731
        history = jnp.where(users.observation.history == PAD_ID, num_items, users.observation.history)
        return jnp.argmax(jax.vmap(unshown)(agreement, history), axis=1).astype(jnp.int32)

    def by_what_was_said(key: Array, users: Revealed, setting: Array | None) -> Array:
        del key
        assert users.observation.context is not None
        is_spoken, told = jnp.split(users.observation.context, 2, axis=1)
        item = best(told, users)
        if setting is None:
            return item[:, None]
        ask = num_items + jnp.argmin(is_spoken, axis=1).astype(jnp.int32)
        return jnp.where(jnp.sum(is_spoken, axis=1) < setting, ask, item)[:, None]

    def by_wish(key: Array, users: Revealed, setting: None) -> Array:
        del key, setting
        return best(users.state.wish, users)[:, None]

    family = jnp.arange(attributes + 1, dtype=jnp.float32)
    return {
        "myopic": Oracle(by_what_was_said, "the item most likely to be taken by what was said, each once"),
        "look_ahead": Oracle(
            by_what_was_said,
            f"asks until so many attributes were spoken of, then shows the same: the best of 0 to {attributes}, so a"
            " lower bound",
            family,
        ),
        "revealed": Oracle(by_wish, "the item that fits the wish best, for who knows it"),
    }
