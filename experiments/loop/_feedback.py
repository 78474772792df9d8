"""Recommenders that learn from their own traffic, and what they show to a cohort whom they do not learn from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from recjax import envs, eval
from recjax.agents import Agent, ExplorationHyper, Update
from recjax.envs import Environment
from recjax.loop import Interaction, LoopConfig, Program, follow
from recjax.loop.faults import raise_faults
from recjax.replay import Batch
from recjax.response import Response
from recjax.rewards import click
from recjax.types import PAD_ID, Array, PyTree, Step, seed_axes

METRICS = {
    "popularity_lift": "popularity lift",
    "gini": "Gini, shown",
    "gini_consumed": "Gini, consumed",
    "coverage": "coverage",
    "intra_user": "diversity within users",
    "inter_user": "diversity between users",
    "jaccard_alike": "Jaccard, like-minded",
    "jaccard_all": "Jaccard, all",
    "clicks": "clicks per slate",
    "pleasure": "pleasure per slate",
    "niche_gap": "pleasure, niche − mainstream",
}
"""What is measured on the cohort, see :func:`measured`; and as a table names it."""

TRAFFIC = {"click_rate": "clicks per slate of traffic", "gini": "Gini of traffic"}
"""What a round's own traffic is told by, exploration included: metrics of the loop."""

QUARTER = 0.25
"""The share of a cohort that counts as mainstream, and the share that counts as niche."""

Found = dict[str, np.ndarray]
"""Metrics by name, ``f64[rounds + 1, seeds]``, the first before the loop is closed; one row for what never changes."""


@struct.dataclass
class WeighedHyper(ExplorationHyper):
    """Hyper-parameters of :func:`weighed`.

    Attributes:
      most: the largest weight of a click, at least 1; at 1 nothing is corrected.
    """

    most: Array | float = 1.0


def weighed(agent: Agent) -> Agent:
    """The agent, learning from clicks that weigh as much as it was unlikely that their slot showed their item.

    With weights ``min(1 / propensity, most)`` a loss that is a mean over clicks is the self-normalised estimate of the
    loss under uniform slates, biased as far as weights are cut.

    Args:
      agent: whose slates have ``extras["propensity"]``, and whose loss weighs each slot by its click.
    """
    learn_unweighed = agent.learn
    assert learn_unweighed is not None

    def learn(key: Array, state: Any, batch: Batch) -> Update:
        step: Step = batch.experience
        weight = jnp.minimum(1.0 / step.extras["propensity"], state.hparams.most)
        response = Response(**(dict(step.response) | {"click": weight * step.response["click"]}))
        return learn_unweighed(key, state, batch._replace(experience=dataclasses.replace(step, response=response)))

    exploration = {field.name: getattr(agent.hparams, field.name) for field in dataclasses.fields(ExplorationHyper)}
    return agent._replace(learn=learn, hparams=WeighedHyper(**exploration))


@dataclasses.dataclass(frozen=True)
class Cohort:
    """People who are shown slates without exploration, and whom nobody learns from; they do not leave.

    Attributes:
      env: where they live.
      people: of each seed.
      slates: that each of them is shown.
      seeds: each has people of its own, the same ones for every policy and every round.
      key: they follow from it.
    """

    env: Environment
    people: int
    slates: int
    seeds: int
    key: Array

    def follower(self, agent: Agent) -> Callable[[PyTree], Found]:
        """A compiled function from the agent's states of all seeds, or of groups of them, to :func:`measured`."""
        still = envs.as_arrays(self.env.params.response_model.replace(leave_base=0.0, leave_slope=0.0))
        env = self.env._replace(params=self.env.params.replace(response_model=still))
        each = jax.vmap(lambda seed: jax.random.fold_in(self.key, seed))(jnp.arange(self.seeds))
        interaction = Interaction(env, agent, click)

        def visit(carry: None, step: Step, staying: Array) -> tuple[None, tuple[Array, Array, Array]]:
            return carry, (step.slate, step.response["click"], step.response["satisfaction"])

        def one(key: Array, state: PyTree) -> dict[str, Array]:
            arrive_key, act_key, tick_key = jax.random.split(key, 3)
            users = interaction.arrive(arrive_key, env.params, None, self.people)
            keys = jax.random.split(act_key, self.slates), jax.random.split(tick_key, self.slates)
            _, seen = follow(interaction, state, users, None, keys, visit, None, explore=False)
            return measured(env, users.state, *seen)

        @jax.jit
        def all_seeds(keys: Array, state: PyTree) -> dict[str, Array]:
            return jax.vmap(one, in_axes=(0, seed_axes(state)))(keys, state)

        def measure(state: PyTree, groups: int = 1) -> Found:
            found = all_seeds(jnp.tile(each, groups), state)
            return {name: np.asarray(values, np.float64) for name, values in jax.device_get(found).items()}

        return measure


def measured(env: Environment, users: Any, slates: Array, clicks: Array, pleasure: Array) -> dict[str, Array]:
    """What became of a cohort, by the names of :data:`METRICS`.

    The popularity of an item is the share of the cohort who like it, which no loop can change. Users are mainstream as
    far as the logits with which they like items correlate with those of the mean user. Like-minded is the other user
    with the largest cosine of tastes.

    Args:
      env: with the dynamics of :mod:`recjax.envs.choice.dynamics`.
      users: their hidden states on arrival, leaves ``[B, ...]``.
      slates: ``i32[T, B, K]`` what each was shown.
      clicks: ``f32[T, B, K]``.
      pleasure: ``f32[T, B, K]`` satisfaction with what was clicked, else 0.
    """
    steps, people, _ = slates.shape
    num_items, content, factors = env.spec.num_items, env.items.content, env.params.factors
    likes = users.vector @ factors.vectors.T + factors.bias[None] + users.bias[:, None]
    taste = users.vector / jnp.linalg.norm(users.vector, axis=-1, keepdims=True)
    alike = jnp.argmax(taste @ taste.T - 2 * jnp.eye(people), axis=-1)
    mainstream = jax.vmap(lambda own: jnp.corrcoef(own, factors.bias)[0, 1])(likes)

    of_users = lambda x: jnp.swapaxes(x, 0, 1).reshape(people, -1)  # noqa: E731
    shown, consumed = of_users(slates), of_users(jnp.where(clicks > 0, slates, PAD_ID))
    counts, own_pleasure = eval.exposure_counts(shown, num_items), jnp.sum(of_users(pleasure), axis=-1) / steps
    low, high = jnp.quantile(mainstream, QUARTER), jnp.quantile(mainstream, 1 - QUARTER)
    return {
        "popularity_lift": eval.exposure_popularity_lift(counts, jnp.mean(jax.nn.sigmoid(likes), axis=0)),
        "gini": eval.gini(counts),
        "gini_consumed": eval.gini(eval.exposure_counts(consumed, num_items)),
        "coverage": eval.coverage(counts),
        "intra_user": jnp.nanmean(eval.intra_list_diversity(shown, content)),
        "inter_user": jnp.mean(jax.vmap(lambda slate: eval.inter_user_diversity(slate, num_items))(slates)),
        "jaccard_alike": eval.mean_jaccard(consumed, num_items, partner=alike),
        "jaccard_all": eval.mean_jaccard(consumed, num_items),
        "clicks": jnp.sum(clicks) / (steps * people),
        "pleasure": jnp.mean(own_pleasure),
        "niche_gap": jnp.mean(own_pleasure, where=mainstream <= low) - jnp.mean(own_pleasure, where=mainstream >= high),
    }


def close_loop(
    agent: Agent,
    settings: Sequence[dict[str, float]],
    schedule: LoopConfig,
    start: int,
    cohort: Cohort,
    key: Array,
) -> list[Found]:
    """Runs an agent from random slates into the loop, all settings and seeds in one compiled program.

    Up to ``start`` slates are random (ε = 1) and the same for all settings. Then each explores as its setting says and
    learns from the traffic that this makes, beside what it has from before. Seeds meet the same users and the same
    chance in every setting.

    Args:
      agent: whose hyper-parameters have the fields of :class:`recjax.agents.ExplorationHyper`.
      settings: values of fields of its hyper-parameters, once the loop is closed.
      schedule: of all steps; ``chunk`` is a round, ``seeds`` those of one setting.
      start: steps of random slates, a multiple of the round.
      cohort: who is followed after each round, in the environment of the loop.
      key: of the whole.

    Returns:
      What was found under each setting: the cohort's metrics, and :data:`TRAFFIC` as ``traffic_...``.
    """
    seeds, groups = schedule.seeds, len(settings)
    schedule = dataclasses.replace(schedule, seeds=seeds * groups)
    program, follower = Program(cohort.env, agent, schedule, click, groups=groups), cohort.follower(agent)
    random_slates = [setting | exploring(1.0) for setting in settings]
    state = program.init(key, hparams=_hyper_parameters(agent, random_slates, seeds), per_seed_hparams=True)
    rows: list[Found] = []
    for step in range(schedule.chunk, schedule.steps + 1, schedule.chunk):
        state, online = program.chunk(state)
        raise_faults(state.faults, "the loop", step - schedule.chunk + 1, step)
        if step == start:
            learned = dataclasses.replace(state.agent, hparams=_hyper_parameters(agent, settings, seeds))
            state = dataclasses.replace(state, agent=learned)
        if step >= start:
            traffic = {f"traffic_{name}": np.asarray(online[name], np.float64) for name in TRAFFIC}
            rows.append(follower(state.agent, groups) | traffic)
    whole = {name: np.stack([row[name] for row in rows]).reshape(len(rows), groups, seeds) for name in rows[0]}
    return [{name: values[:, group] for name, values in whole.items()} for group in range(groups)]


def exploring(epsilon: float) -> dict[str, float]:
    """The setting of exploration that stays as it is."""
    return {"epsilon_start": epsilon, "epsilon_end": epsilon}


def _hyper_parameters(agent: Agent, settings: Sequence[dict[str, float]], seeds: int) -> PyTree:
    """Those of every seed of every setting, each field an array of its own, since all of them are donated."""
    defaults = agent.hparams
    fields = [field.name for field in dataclasses.fields(defaults)]
    return type(defaults)(**{
        name: jnp.repeat(jnp.array([one.get(name, getattr(defaults, name)) for one in settings], jnp.float32), seeds)
        for name in fields
    })  # fmt: skip


def never_learning(agent: Agent, cohort: Cohort) -> Found:
    """What a policy that never changes shows."""
    env, keys = cohort.env, jax.random.split(jax.random.key(0), cohort.seeds)
    shapes = jax.eval_shape(lambda key: agent.init(key, env.spec, env.items), keys[0])
    state = jax.vmap(lambda key: agent.init(key, env.spec, env.items), out_axes=seed_axes(shapes))(keys)
    return {name: values[None] for name, values in cohort.follower(agent)(state).items()}
