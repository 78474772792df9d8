"""What all bandits share: their state, how choices are rated, and how each step is learned from."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from recjax import replay
from recjax.agents.bandits.regressions import Estimate, Regression, Seen
from recjax.agents.base import Act, Agent, LogProb, Update
from recjax.agents.exploration import ExplorationHyper
from recjax.agents.slates import Selection, SlatePolicy
from recjax.agents.state import check_problem, count_step, hyper_parameters, owned
from recjax.catalogue import BLOCK_SIZE, BlockScorer, Catalogue, dense_scorer
from recjax.replay import Batch
from recjax.types import PAD_ID, Array, Items, Observation, PyTree, Spec, Step, shared

Rate = Callable[[Estimate, Any, Array], Array]
"""``(estimate, noise, choices i32[B, M]) -> f32[B, M]``: by what choices are ranked."""


@struct.dataclass
class BanditHyper(ExplorationHyper):
    """Hyper-parameters of bandits; scalars that may be traced, and mapped over seeds.

    Attributes:
      width: standard deviations that UCB adds to a mean, or by which Thompson sampling stretches its posterior.
      gamma: of SquareCB, whose γ at step ``t`` is ``gamma * sqrt(A t)`` with ``A`` items to choose from.
      regularisation: λ of ridge regression, above 0.
    """

    width: Array | float = 1.0
    gamma: Array | float = 10.0
    regularisation: Array | float = 1.0


@struct.dataclass
class BanditState:
    """Everything that a bandit carries from step to step.

    Attributes:
      model: what it has learned, as its regression makes it.
      hparams: :class:`BanditHyper`.
      spec: static shape of the problem.
      acted: ``i32[]`` steps of the environment.
      items: features of the catalogue.
    """

    model: PyTree
    hparams: BanditHyper
    spec: Spec = struct.field(pytree_node=False)
    acted: Array = shared()
    items: Items = shared()


def expected(estimate: Estimate, noise: None, choices: Array) -> Array:
    """The rate of those who do not explore: the mean."""
    del noise, choices
    return estimate.mean


@dataclasses.dataclass(frozen=True)
class Bandit:
    """A regression whose rewards are learned as they come, and what may be shown.

    Attributes:
      regression: what is learned of rewards.
      policy: says what may be shown.
    """

    regression: Regression
    policy: SlatePolicy

    def agent(self, act: Act, log_prob: LogProb | None, **hparams: Any) -> Agent:
        """The agent that acts so; ``hparams`` are fields of :class:`BanditHyper`.

        Raises:
          ValueError: a hyper-parameter is out of range.
        """
        for name, value in hparams.items():
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} is {value}; it must be finite and at least 0.")
        if not hparams["regularisation"] > 0:
            raise ValueError("regularisation is 0; it must be above 0, or what was never shown has no prior.")
        defaults = BanditHyper(**self.policy.hparams(), **hparams)

        def init(key: Array, spec: Spec, items: Items, hparams: Any = None, params: PyTree = None) -> BanditState:
            check_problem(spec, items, self.policy.exclude_history)
            chosen = hyper_parameters(hparams, defaults)
            return BanditState(
                model=self.regression.init(key, spec, items, chosen, params),
                hparams=chosen,
                acted=jnp.zeros((), jnp.int32),
                items=owned(items),
                spec=spec,
            )

        return Agent(init, act, self.learn, log_prob, self.scores, replay.rollout(1), defaults, count_step)

    def scores(self, state: BanditState, observation: Observation) -> tuple[PyTree, Catalogue]:
        """Expected rewards."""
        return self.select(state, observation)[:2]

    def select(
        self, state: BanditState, observation: Observation, rate: Rate = expected, noise: PyTree = None
    ) -> Selection:
        """What slates are chosen from, rated; ``noise`` are leaves ``[B, ...]`` that ``rate`` is given."""

        def of_choices(queries: tuple[Observation, PyTree], choices: Array) -> Array:
            observation, noise = queries
            return rate(self.regression.estimate(state.model, observation, state.items, choices), noise, choices)

        def of_block(queries: tuple[Observation, PyTree], start: Array | int, size: int) -> Array:
            return of_choices(queries, jnp.broadcast_to(start + jnp.arange(size), (len(queries[0].history), size)))

        queries, exclude = (observation, noise), self.policy.unwanted(state.spec, observation)
        if state.spec.num_candidates:
            return Selection(*dense_scorer(of_block(queries, 0, state.spec.num_candidates)), exclude)
        block_size = max(1, BLOCK_SIZE // self.regression.size(state.model))
        return Selection(queries, BlockScorer(of_block, state.spec.num_items, of_choices, block_size), exclude)

    def learn(self, key: Array, state: BanditState, batch: Batch) -> Update:
        """Learns what every slot earned, each step once."""
        del key
        step: Step = jax.tree.map(lambda x: x[:, 0], batch.experience)
        is_learned = (step.slate != PAD_ID) & batch.valid[:, None]
        seen = Seen(step.observation, state.items, jnp.maximum(step.slate, 0), step.reward, is_learned)
        model, metrics = self.regression.observe(state.model, state.hparams, seen)
        return Update(dataclasses.replace(state, model=model), metrics)
