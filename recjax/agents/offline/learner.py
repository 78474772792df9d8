"""What offline agents have in common: logged transitions, networks by name, and one descent of one loss.

An agent is a loss that reads like its paper (:mod:`.values`, :mod:`.policies`); networks, targets and acting are here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct

from recjax import replay
from recjax.agents.base import Action, Agent, Update
from recjax.agents.policy.distributions import SlateActor, Slates
from recjax.agents.slates import Selection
from recjax.agents.state import check_problem, hyper_parameters, owned, started
from recjax.agents.value.target import TargetNetwork
from recjax.agents.value.windows import check_windows, seen_after
from recjax.catalogue import Catalogue
from recjax.fit import descend
from recjax.replay import Batch
from recjax.types import Array, Items, Observation, PyTree, Spec, Step, shared, shown_items


@struct.dataclass
class OfflineHyper:
    """Hyper-parameters of offline agents; scalars that may be traced, and mapped over seeds.

    Attributes:
      discount: γ.
      conservatism: α of CQL, the weight of what is said of items that the log does not show.
      threshold: τ of BCQ, how likely an item is shown at least, as a share of the likeliest.
      expectile: τ of IQL.
      temperature: of IQL and CRR, by which advantages are divided, in units of the values.
    """

    discount: Array | float = 0.95
    conservatism: Array | float = 1.0
    threshold: Array | float = 0.3
    expectile: Array | float = 0.7
    temperature: Array | float = 0.3


@struct.dataclass
class OfflineState:
    """Everything that an offline agent carries from update to update.

    Attributes:
      params: variables of its networks, by name.
      target_params: of the networks that value what comes next, the same names.
      opt_state: state of the optimiser.
      hparams: :class:`OfflineHyper`.
      spec: static shape of the problem.
      step: ``i32[]`` updates done.
      items: features of the catalogue.
    """

    params: PyTree
    target_params: PyTree
    opt_state: optax.OptState
    hparams: OfflineHyper
    spec: Spec = struct.field(pytree_node=False)
    step: Array = shared()
    items: Items = shared()


class Transitions(NamedTuple):
    """What a log tells, slot by slot.

    Attributes:
      o_tm1: leaves ``[B, ...]``.
      a_tm1: ``i32[B, K]`` what was shown, as slates hold it.
      r_t: ``f32[B, K]``.
      discount_t: ``f32[B, K]``, 0 where the episode terminated.
      o_t: leaves ``[B, ...]``.
      is_learned: ``bool[B, K]``.
    """

    o_tm1: Observation
    a_tm1: Array
    r_t: Array
    discount_t: Array
    o_t: Observation
    is_learned: Array


class Networks(NamedTuple):
    """The networks of an agent, by name, with one set of variables."""

    modules: Mapping[str, nn.Module]
    params: PyTree
    spec: Spec
    items: Items
    exclude_history: bool

    def fixed(self) -> Networks:
        """The same without gradients."""
        return self._replace(params=jax.lax.stop_gradient(self.params))

    def choices(self, name: str, observation: Observation) -> Selection:
        """What is chosen from by the scores of a :class:`recjax.nn.ScoringNetwork`."""
        network: Any = self.modules[name]
        actor = SlateActor(network, self.exclude_history)
        return actor.choices(network, self.params[name], self.spec, observation, self.items)

    def policy(self, name: str, observation: Observation) -> Slates:
        """The softmax of its scores."""
        return Slates(self.choices(name, observation), self.spec.slate_size)

    def at(self, name: str, observation: Observation, action: Array) -> Array:
        """Its scores of the slots of slates, ``f32[B, K]``."""
        shown = jnp.maximum(shown_items(action, observation), 0)
        found: Any = self.modules[name].apply(self.params[name], observation, shown, self.items, method="at")
        return found

    def value(self, name: str, observation: Observation) -> Array:
        """What a Flax module ``(observation, items) -> f32[B]`` says."""
        found: Any = self.modules[name].apply(self.params[name], observation, self.items)
        return found


OfflineLoss = Callable[[Networks, Networks, Transitions, OfflineHyper], tuple[Array, dict[str, Array]]]
"""``(networks, those with target variables, transitions, hparams) -> (loss f32[], metrics)``."""

Pick = Callable[[Networks, Observation, OfflineHyper], Slates]
"""What slates are drawn from."""


@dataclasses.dataclass(frozen=True)
class OfflineAgent:
    """An offline agent.

    Attributes:
      modules: its networks, by name; ``init(..., params=...)`` starts the first.
      optimizer: an optax transformation of all of them.
      loss: what is descended.
      pick: what slates are drawn from.
      is_certain: whether it shows the best slate always, rather than draw one to explore.
      target: how target variables follow, None where nothing is valued by them.
      exclude_history: never show an item of the observed history, nor learn from one that was shown again.
    """

    modules: Mapping[str, nn.Module]
    optimizer: optax.GradientTransformation
    loss: OfflineLoss
    pick: Pick
    is_certain: bool
    target: TargetNetwork | None
    exclude_history: bool

    def agent(self, defaults: OfflineHyper) -> Agent:
        """The agent."""

        def init(key: Array, spec: Spec, items: Items, hparams: Any = None, params: PyTree = None) -> OfflineState:
            return self.init(key, spec, items, hyper_parameters(hparams, defaults), params)

        def act(key: Array, state: OfflineState, observation: Observation, *, explore: bool = True) -> Action:
            found = self._slates(state, observation)
            return found.sample(key) if explore and not self.is_certain else found.mode()

        def log_prob(state: OfflineState, observation: Observation, slate: Array, *, explore: bool = True) -> Array:
            return self._slates(state, observation).told(slate, explore=explore and not self.is_certain)

        def scores(state: OfflineState, observation: Observation) -> tuple[PyTree, Catalogue]:
            found = self._slates(state, observation)
            return found.choices.queries, found.choices.items

        return Agent(init, act, self.learn, log_prob, scores, replay.uniform(), defaults)

    def init(self, key: Array, spec: Spec, items: Items, hparams: OfflineHyper, params: PyTree) -> OfflineState:
        """The state to begin with; ``params`` are variables of the first network, or of one with its towers."""
        own: dict[str, PyTree] = {}
        for number, (name, module) in enumerate(self.modules.items()):
            if not number:
                check_problem(spec, items, self.exclude_history, module)
            made = jax.jit(module.init)(jax.random.fold_in(key, number), spec.empty_observation((1,)), items)
            own[name] = started(made, None if number else params)
        return OfflineState(
            params=own,
            target_params=None if self.target is None else owned(own),
            opt_state=self.optimizer.init(own),
            hparams=hparams,
            spec=spec,
            step=jnp.zeros((), jnp.int32),
            items=owned(items),
        )

    def networks(self, params: PyTree, state: OfflineState) -> Networks:
        """The networks with given variables."""
        return Networks(self.modules, params, state.spec, state.items, self.exclude_history)

    def _slates(self, state: OfflineState, observation: Observation) -> Slates:
        return self.pick(self.networks(state.params, state), observation, state.hparams)

    def learn(self, key: Array, state: OfflineState, batch: Batch) -> Update:
        """Descends the loss once."""
        del key
        check_windows("An offline agent", batch, 1)
        log = self._transitions(state, batch)
        held = self.networks(state.target_params, state)

        def loss_fn(params: PyTree) -> tuple[Array, dict[str, Array]]:
            loss, metrics = self.loss(self.networks(params, state), held, log, state.hparams)
            return loss, metrics | {"loss": loss}

        done = descend(loss_fn, self.optimizer, state.params, state.opt_state)
        step, followed = state.step + 1, state.target_params
        if self.target is not None:
            followed = self.target.follow(step, done.params, followed)
        changed: dict[str, Any] = {"params": done.params, "target_params": followed, "opt_state": done.opt_state}
        return Update(dataclasses.replace(state, step=step, **changed), done.aux)

    def _transitions(self, state: OfflineState, batch: Batch) -> Transitions:
        steps: Step = batch.experience
        first: Step = jax.tree.map(lambda x: x[:, 0], steps)
        networks = self.networks(state.params, state)
        name = next(iter(self.modules))
        is_learned = networks.policy(name, first.observation).may_show(first.slate) & batch.valid[:, None]
        discount_t = jnp.where(first.terminated, 0.0, state.hparams.discount)
        return Transitions(
            o_tm1=first.observation,
            a_tm1=jnp.where(is_learned, first.slate, 0),
            r_t=first.reward,
            discount_t=jnp.broadcast_to(discount_t[:, None], first.reward.shape),
            o_t=seen_after(steps, jnp.zeros(first.terminated.shape, jnp.int32)),
            is_learned=is_learned,
        )
