"""News: an edition that is renewed at every step, breaking stories that surge and fade, articles nobody has read yet.

The catalogue is the archive of all articles in the order in which they appear. ``per_step`` of them are published at
each step of a clock that all readers share, and an edition is the newest ``num_candidates``: at step ``c`` the articles
number ``c * per_step .. c * per_step + num_candidates - 1``. When the archive is through, it begins again.
Choice, boredom, bait (of headlines), slow satisfaction and leaving are those of :mod:`recjax.envs.choice.dynamics`,
where the attraction of an article also depends on its age ``g_j`` in steps:

* ``a_j = l_j - boredom_weight * b_j + surge * h_j * exp(-g_j / surge_steps) - staleness * v_j * g_j / life``, where
  ``h_j`` is 1 for breaking stories and 0 for others, ``v_j`` is 0 for evergreens and 1 for others, and ``life`` is the
  age at which an article leaves the edition;
* an article in the reader's history is not read again;
* satisfaction with what is read is ``y_j = sigmoid(a_j)``.

So what is new cannot be learned by its id, which is gone before it was shown often; what fades is to be shown
now, and evergreens can wait.

All numbers are chosen for plausibility: one article in twenty is a breaking story that loses two thirds of its surge in
three steps, one in four an evergreen, and headlines are bait of a standard deviation of two logits.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct

from recjax.envs.base import Environment, Transition, register
from recjax.envs.choice import dynamics
from recjax.envs.choice.oracles import LookAhead, appraisal, wary
from recjax.envs.choice.parameters import INF, declare
from recjax.envs.choice.planning import Appraisal, grid, yardsticks
from recjax.envs.choice.response_model import ResponseModel, as_arrays
from recjax.envs.sims import population
from recjax.envs.sims.synthetic import synthetic
from recjax.response import CLICK, SATISFACTION, Response
from recjax.types import PAD_ID, Array, Behaviour, Candidates, Feature, Items, Observation, Spec, Step, shown_items

READERS = ResponseModel(
    no_click_logit=2.0, bait=2.0, boredom_weight=3.0, satisfaction_rate=0.3, leave_base=0.005, leave_slope=0.2
)
"""How these users respond unless told otherwise: headlines promise, readers judge soon, and leave soon."""

DELAY = 5.0
"""Steps by which a look-ahead policy imagines to show an article later."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Newsroom:
    """The declared parameters of news."""

    breaking_share: float = declare(0.05, 0.0, 1.0, "Share of articles that are breaking stories.")
    evergreen_share: float = declare(0.25, 0.0, 1.0, "Share of articles that do not become stale.")
    surge: float = declare(2.0, 0.0, INF, "Logits of attraction that a breaking story has on top when it appears.")
    surge_steps: float = declare(3.0, 1e-3, INF, "Steps in which a surge falls to 1/e.")
    staleness: float = declare(
        2.0, 0.0, INF, "Logits of attraction that an article loses between its appearance and leaving the edition."
    )


@struct.dataclass
class Params(population.Params):
    """What all readers share.

    Attributes:
      newsroom: the declared parameters.
      breaking: ``f32[N]`` 1 for breaking stories.
      perishable: ``f32[N]`` 0 for evergreens.
    """

    newsroom: Newsroom
    breaking: Array
    perishable: Array


@struct.dataclass
class Plan(LookAhead):
    """In addition, how much counts in favour of an article now that it will have lost a while later."""

    urgency: Array


STILL = Plan(satisfaction_worth=0.0, boredom_weight=1.0, urgency=0.0)  # type: ignore[arg-type]
FAMILY = {"satisfaction_worth": (0.0, 2.0, 4.0, 8.0, 16.0), "boredom_weight": (1.0, 1.5), "urgency": (0.0, 0.5)}
"""Plans that are searched."""


@dataclasses.dataclass(frozen=True)
class Edition:
    """Which articles lie before readers at a step.

    Attributes:
      num_items: articles of the archive.
      size: articles of an edition.
      per_step: articles that appear at each step.
    """

    num_items: int
    size: int
    per_step: int

    def __post_init__(self) -> None:
        if not 1 <= self.per_step <= self.size < self.num_items:
            raise ValueError(
                f"news got per_step={self.per_step}, num_candidates={self.size} and num_items={self.num_items};"
                " it needs 1 <= per_step <= num_candidates < num_items."
            )

    @property
    def life(self) -> float:
        """Steps for which an article stays."""
        return self.size / self.per_step

    def articles(self, clock: Array) -> Array:
        """``i32[M]``, the oldest first."""
        # The clock is taken modulo the archive first, so that it may run for ever.
        first = (clock % self.num_items) * self.per_step
        return (first + jnp.arange(self.size)) % self.num_items

    def ages(self) -> Array:
        """``f32[M]`` their ages in steps."""
        return (jnp.arange(self.size)[::-1] // self.per_step).astype(jnp.float32)


@register("news")
def news(
    *,
    num_items: int = 10_000,
    num_candidates: int = 40,
    per_step: int = 1,
    slate_size: int = 5,
    history_length: int = 20,
    newsroom: Newsroom | None = None,
    response_model: ResponseModel | None = None,
    key: Array | None = None,
) -> Environment:
    """Readers of a newspaper, most of them unknown; the reward that it is made for is "click".

    Slates are positions in the edition, ``Observation.candidates``, whose only feature is the age of each article as a
    share of its life. Items have the features "genres" and "kind" (breaking, evergreen). All articles but those of the
    first edition are new: ``Items.is_new``, with popularity 0. Readers arrive with an empty history; it then holds what
    they read, as CLICK.

    Args:
      num_items: articles of the archive.
      num_candidates: articles of an edition.
      per_step: articles that appear at each step.
      slate_size: slots of a slate.
      history_length: positions of a history, and how many articles a reader remembers to have read.
      newsroom: how articles age; the defaults of ``Newsroom`` if None.
      response_model: how readers choose, tire and leave; ``conversion_rate`` is not read. :data:`READERS` if None.
      key: PRNG key of the archive; ``jax.random.key(0)`` by default.

    Raises:
      ValueError: an argument is out of range.

    >>> env = news(num_items=100, num_candidates=8, slate_size=3)
    >>> observation, _ = env.reset(jax.random.key(1), env.params, jnp.int32(3))
    >>> observation.candidates.ids.tolist()
    [3, 4, 5, 6, 7, 8, 9, 10]
    """
    key = jax.random.key(0) if key is None else key
    edition = Edition(num_items, num_candidates, per_step)
    spec = Spec(num_items, slate_size, history_length, num_candidates=num_candidates, signals=(CLICK, SATISFACTION))
    base = synthetic(
        num_items=num_items,
        slate_size=slate_size,
        history_length=history_length,
        new_share=0.0,
        response_model=READERS if response_model is None else response_model,
        key=key,
    )
    newsroom = as_arrays(Newsroom() if newsroom is None else newsroom)
    draw = jax.random.uniform(jax.random.fold_in(key, 1), (2, num_items))
    breaking, evergreen = draw[0] < newsroom.breaking_share, draw[1] < newsroom.evergreen_share
    kind = jnp.stack([breaking, evergreen], axis=1).astype(jnp.float32)
    params = Params(**vars(base.params), newsroom=newsroom, breaking=kind[:, 0], perishable=1.0 - kind[:, 1])

    def reset(key: Array, params: Params, world: Array) -> tuple[Observation, dynamics.User]:
        _, user = base.reset(key, params, None)
        observation = dataclasses.replace(spec.empty_observation(), candidates=_candidates(edition, world))
        return observation, dataclasses.replace(user, observation=observation)

    def step(key: Array, state: dynamics.User, slate: Array, params: Params, world: Array) -> Transition:
        return _step(key, state, slate, params, world, edition)

    def appraise(user: dynamics.User, params: Params, world: Array, plan: Plan) -> Appraisal:
        return _appraise(user, params, plan, edition)

    return Environment(
        spec=spec,
        params=params,
        items=_known(base.items, edition, kind),
        reset=reset,
        step=step,
        init_world=lambda key, params: jnp.zeros((), jnp.int32),
        tick=_tick,
        oracles=yardsticks(
            appraise,
            slate_size,
            STILL,
            grid(Plan, **FAMILY),
            "where satisfaction has a price, boredom more weight, and what fades is shown first",
        ),
    )


def _known(items: Items, edition: Edition, kind: Array) -> Items:
    """What the platform knows: there has been no reader of what is not yet published."""
    is_new = jnp.arange(edition.num_items) >= edition.size
    popularity = jnp.where(is_new, 0.0, items.popularity)
    return dataclasses.replace(items, popularity=popularity, is_new=is_new).with_features(
        kind=Feature(kind, "multi_hot")
    )


def _candidates(edition: Edition, clock: Array) -> Candidates:
    return Candidates(edition.articles(clock), (edition.ages() / edition.life)[:, None])


def _tick(key: Array, world: Array, step: Step, params: Params) -> Array:
    """Another step of the clock."""
    del key, step, params
    return world + 1


def _attraction(
    user: dynamics.User, articles: Array, ages: Array, edition: Edition, params: Params, response_model: ResponseModel
) -> Array:
    """The logits ``f32[M]`` with which a user likes articles of these ages in steps."""
    room = params.newsroom
    surge = room.surge * params.breaking[articles] * jnp.exp(-ages / room.surge_steps)
    stale = room.staleness * params.perishable[articles] * ages / edition.life
    return dynamics.attraction(user, articles, response_model, params.factors) + surge - stale


def _is_read(articles: Array, user: dynamics.User) -> Array:
    """``bool[M]``: which articles the user has read, as far as the history reaches."""
    return jnp.any(articles[:, None] == user.observation.history[None], axis=1)


def _step(key: Array, user: dynamics.User, slate: Array, params: Params, world: Array, edition: Edition) -> Transition:
    model, factors = params.response_model, params.factors
    choice_u, leave_u = jax.random.uniform(key, (2,))
    articles = shown_items(slate, user.observation)
    attraction = _attraction(user, articles, edition.ages()[slate], edition, params, model)
    appeal = attraction + model.bait * factors.bait[articles]
    unread = jnp.where(_is_read(articles, user), PAD_ID, articles)
    choice = dynamics.choose(choice_u, appeal, unread, edition.num_items, model)

    pleasure = jnp.where(choice.click, jax.nn.sigmoid(attraction), 0.0)
    response = Response(click=choice.click.astype(jnp.float32), satisfaction=pleasure)
    after = dynamics.settle(user, choice, factors.topics[choice.item], jnp.sum(pleasure), model)
    observation = dynamics.append(user.observation, choice.item, jnp.int32(Behaviour.CLICK), choice.happened)
    observation = dataclasses.replace(observation, candidates=_candidates(edition, world + 1))
    after = dataclasses.replace(after, observation=observation)
    terminated, truncated = dynamics.ends(leave_u, after, model)
    info = {"user_satisfaction": after.satisfaction}
    return Transition(observation, after, response, terminated, truncated, info)


def _appraise(user: dynamics.User, params: Params, plan: Plan, edition: Edition) -> Appraisal:
    model, factors, ages = wary(params.response_model, plan), params.factors, edition.ages()
    assert user.observation.candidates is not None
    articles = user.observation.candidates.ids
    attraction = _attraction(user, articles, ages, edition, params, model)
    later = _attraction(user, articles, ages + DELAY, edition, params, model)
    pleasure = jax.nn.sigmoid(attraction)
    fading = pleasure - jax.nn.sigmoid(later)
    reward = 1.0 + plan.urgency * fading
    found = appraisal(user, attraction + model.bait * factors.bait[articles], reward, pleasure, model, plan)
    return found._replace(exclude=jnp.where(_is_read(articles, user), jnp.arange(edition.size), PAD_ID))
