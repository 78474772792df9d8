"""SlateQ against float64, and on a problem whose optimum is known and which credit by slot gets wrong."""

from __future__ import annotations

import dataclasses
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from recjax import agents, envs, loop, nn
from recjax.agents.value.slate_q import choice_cross_entropy
from recjax.replay import Batch
from recjax.study import first_seed
from recjax.testing import Bait
from recjax.types import PAD_ID, Candidates, Items, Observation, Response, Spec, Step

SPEC = Spec(num_items=7, slate_size=2, history_length=3)
USERS, N_STEP, GAMMA = 16, 2, 0.8


def network():
    return nn.DotProductSlateQ.of(SPEC.num_items, dim=4)


def moved(params, seed):
    leaves, treedef = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    return jax.tree.unflatten(
        treedef, [x + 0.5 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    )


def sample():
    rng = np.random.default_rng(0)
    shape = (USERS, N_STEP)

    def observation():
        history = jnp.asarray(rng.integers(-1, SPEC.num_items, (*shape, SPEC.history_length)), jnp.int32)
        return Observation(history=history, behaviour=jnp.where(history < 0, PAD_ID, 1))

    slates = np.stack([rng.permutation(SPEC.num_items)[:2] for _ in range(USERS * N_STEP)]).reshape(*shape, 2)
    slates[0, 0, 1] = PAD_ID
    clicked = rng.integers(0, 3, shape)[..., None] == np.arange(2)
    clicked[1, 0] = True
    click = jnp.asarray(clicked & (slates != PAD_ID), jnp.float32)
    flags = [jnp.asarray(rng.random(shape) < 0.3) for _ in range(2)]
    reward = jnp.asarray(rng.normal(size=(*shape, 2)), jnp.float32)
    steps = Step(
        observation(), jnp.asarray(slates, jnp.int32), jnp.zeros(shape), None, Response(click=click), reward, *flags,
        observation(),
    )  # fmt: skip
    return Batch(steps, jnp.ones(USERS, bool).at[3].set(False), jnp.arange(USERS), jnp.full(USERS, 1.0))


def ratio(odds, values, nothing, slate):
    weights = np.exp(odds[slate])
    return (weights @ values[slate] + nothing) / (weights.sum() + 1)


def losses(batch, own, target):
    """TD and choice losses in float64, from tables of all outcomes before and after the window."""
    steps = jax.tree.map(np.asarray, batch.experience)
    td, choice = [], []
    for row in np.flatnonzero(np.asarray(batch.valid)):
        last = next((t for t in range(N_STEP) if steps.terminated[row, t] or steps.truncated[row, t]), N_STEP - 1)
        seen = set(steps.next_observation.history[row, last].tolist())
        pairs = [[i, j] for i in range(SPEC.num_items) for j in range(i) if not {i, j} & seen]
        before, after, valued = (jax.tree.map(lambda x, at=at: np.float64(x[at]), tree) for tree, at in (
            (own[0], row), (own[1][last], row), (target[last], row)
        ))  # fmt: skip
        best = max(pairs, key=lambda slate: ratio(*after, slate))
        follows = 0.0 if steps.terminated[row, last] else GAMMA ** (last + 1) * ratio(*valued, best)
        goal = sum(GAMMA**t * steps.reward[row, t].sum() for t in range(last + 1)) + follows
        slate = [item for item in steps.slate[row, 0] if item != PAD_ID]
        click = steps.response["click"][row, 0][: len(slate)]
        shares = np.append(click / max(click.sum(), 1), click.sum() == 0)
        td.append(shares @ (0.5 * (goal - np.append(before.values[slate], before.nothing)) ** 2))
        logits = np.append(before.odds[slate], 0.0)
        choice.append(np.log(np.exp(logits).sum()) - shares @ logits)
    return np.mean(td), np.mean(choice)


def test_learn_equals_float64(kit):
    items, batch = kit.make_items(SPEC.num_items), sample()
    agent = agents.slate_q(network(), optax.sgd(0.1), n_step=N_STEP, discount=GAMMA, loss="mse")
    state = agent.init(jax.random.key(0), SPEC, items)
    state = state.replace(params=moved(state.params, 1), target_params=moved(state.params, 2))
    apply = jax.jit(network().apply)
    at = lambda tree, step: jax.tree.map(lambda x: x[:, step], tree)  # noqa: E731
    first, after = batch.experience.observation, batch.experience.next_observation
    own = apply(state.params, at(first, 0), items), [apply(state.params, at(after, t), items) for t in range(N_STEP)]
    target = [apply(state.target_params, at(after, t), items) for t in range(N_STEP)]
    td, choice = losses(batch, own, target)
    metrics = jax.jit(agent.learn)(jax.random.key(0), state, batch).metrics
    np.testing.assert_allclose(metrics["loss"], td, rtol=1e-4)
    np.testing.assert_allclose(metrics["choice_loss"], choice, rtol=1e-4)


def test_targets_are_what_the_answers_foretell(kit):
    """The loss against float64, where the index is a formula written out."""
    items, batch = kit.make_items(SPEC.num_items), sample()
    pleased = jnp.asarray(np.random.default_rng(5).random((USERS, N_STEP, 2)), jnp.float32)
    response = Response(click=batch.experience.response["click"], satisfaction=pleased)
    batch = batch._replace(experience=dataclasses.replace(batch.experience, response=response))
    options = {"n_step": N_STEP, "discount": GAMMA, "loss": "mse"}
    agent = agents.slate_q(network(), optax.sgd(0.1), surrogates=agents.Surrogates(("satisfaction",), 3), **options)
    spec = dataclasses.replace(SPEC, signals=envs.synthetic(num_items=7, slate_size=2).spec.signals)
    state = agent.init(jax.random.key(0), spec, items)
    index = moved(state.surrogate.params, 4)
    state = state.replace(params=moved(state.params, 1), surrogate=state.surrogate.replace(params=index))
    first = jax.tree.map(lambda x: x[:, 0], batch.experience)
    own = jax.tree.map(np.float64, network().apply(state.params, first.observation, items))
    inner, outer = (jax.tree.map(np.float64, index["params"][name]) for name in ("Dense_0", "Dense_1"))
    found = []
    for row in np.flatnonzero(np.asarray(batch.valid)):
        slate = [item for item in np.asarray(first.slate[row]) if item != PAD_ID]
        expected = ratio(own.odds[row], own.values[row], own.nothing[row], slate)
        click, answer = (np.float64(first.response[name][row]).sum() for name in ("click", "satisfaction"))
        hidden = np.tanh([expected, click, answer] @ inner["kernel"] + inner["bias"])
        foretold = expected + (hidden @ outer["kernel"] + outer["bias"])[0]
        shares = np.float64(first.response["click"][row])[: len(slate)]
        shares = np.append(shares / max(click, 1), click == 0)
        found.append(shares @ (0.5 * (foretold - np.append(own.values[row][slate], own.nothing[row])) ** 2))
    loss = jax.jit(agent.learn)(jax.random.key(0), state, batch).metrics["loss"]
    np.testing.assert_allclose(loss, np.mean(found), rtol=1e-4)


def test_an_index_learns_what_answers_foretell():
    """Late rewards of 2 after one answer and 0 after the other, beneath noise of standard deviation 4."""
    surrogates = agents.Surrogates(("satisfaction",), learning_rate=1e-2)
    spec = envs.synthetic(num_items=7, slate_size=1).spec
    answer = jnp.tile(jnp.array([0.0, 1.0]), 512)
    response = Response(click=jnp.ones((1024, 1)), satisfaction=answer[:, None])

    def update(state, key):
        target = 2 * answer + 4 * jax.random.normal(key, (1024,))
        state, foretold, _ = surrogates.learn(state, jnp.ones(1024), response, target, jnp.ones(1024, bool))
        return state, foretold[:2]

    keys = jax.random.split(jax.random.key(0), 400)
    foretold = jax.lax.scan(update, surrogates.init(jax.random.key(1), spec), keys)[1]
    assert foretold[0].tolist() == [1.0, 1.0]  # What was expected, before anything was learned.
    np.testing.assert_allclose(foretold[-1], [0.0, 2.0], atol=0.3)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: agents.Surrogates(()), "signals is ()"),
        (lambda: agents.Surrogates("satisfaction"), "signals is 'satisfaction'"),
        (lambda: agents.Surrogates(("satisfaction",), learning_rate=0.0), "learning_rate 0.0"),
        (
            lambda: agents.Surrogates(("rating",)).init(jax.random.key(0), envs.synthetic(num_items=9).spec),
            "'rating', but users answer with click, conversion, satisfaction",
        ),
    ],
)
def test_surrogates_that_cannot_be_are_refused(make, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        make()


def test_bait_is_left_alone_where_slots_that_are_credited_alone_show_it():
    """The optimum of a process with bait, which DQN cannot represent: it shows bait at every level."""
    process, discount = Bait(), 0.9
    assert process.optimum(discount).tolist() == [0, 0, 0]
    assert process.slot_wise(discount).tolist() == [2, 2, 2]
    env = envs.environments.make("probe_bait", process)
    rate = optax.adam(optax.linear_schedule(3e-2, 1e-3, 600))
    options = {
        "discount": discount, "loss": "mse", "target": agents.TargetNetwork(period=15),
        "policy": agents.SlatePolicy(epsilon=1.0, exclude_history=False),
    }  # fmt: skip
    size = env.spec.num_items
    learners = {
        "slate_q": agents.slate_q(nn.DotProductSlateQ.of(size, dim=8), rate, **options),
        "dqn": agents.dqn(nn.DotProductQ.of(size, dim=8), rate, **options),
    }
    config = loop.LoopConfig(
        steps=600, chunk=600, eval_every=600, users=64, eval_users=8, eval_steps=1, seeds=1, batch_size=256,
        learn_start=4, replay_capacity=64 * 600,
    )  # fmt: skip
    levels = env.spec.empty_observation((3,)).replace(context=jnp.eye(3))
    bait = {}
    for name, agent in learners.items():
        state = first_seed(loop.run(env, agent, config, key=jax.random.key(0)).state.agent)
        slates = agent.act(jax.random.key(1), state, levels, explore=False).slate
        bait[name] = np.sum(np.asarray(slates) < process.items, axis=1).tolist()
    assert bait == {"slate_q": [0, 0, 0], "dqn": [2, 2, 2]}


@pytest.mark.parametrize("search", ["optimal", "greedy", "top_k"])
def test_slates_of_candidates_are_positions(search):
    """Documents of which some are missing: slates hold distinct positions of those that are there."""
    spec = Spec(num_items=4, slate_size=2, history_length=1, context_size=3, num_candidates=5, candidate_size=2)
    agent = agents.slate_q(
        nn.CandidateSlateQ(hidden=(8, 4)), optax.sgd(0.1), search=search,
        policy=agents.SlatePolicy(exclude_history=False),
    )  # fmt: skip
    items = envs.synthetic(num_items=4, slate_size=1, history_length=1).items
    state = agent.init(jax.random.key(0), spec, items)
    state = state.replace(params=moved(state.params, 1))
    keys = jax.random.split(jax.random.key(2), 3)
    ids = jax.random.randint(keys[0], (9, 5), 0, 4).at[:, 2].set(PAD_ID)
    seen = spec.empty_observation((9,)).replace(
        context=jax.random.normal(keys[1], (9, 3)), candidates=Candidates(ids, jax.random.normal(keys[2], (9, 5, 2)))
    )
    for explore in (True, False):
        slate = np.asarray(agent.act(jax.random.key(3), state, seen, explore=explore).slate)
        assert ((slate >= 0) & (slate < 5) & (slate != 2)).all()
        assert (slate[:, 0] != slate[:, 1]).all()
    if search == "optimal":
        network = nn.CandidateSlateQ(hidden=(8, 4))
        outcomes = network.apply(state.params, seen, items)
        shown = network.apply(state.params, seen, slate, items, method="outcomes")
        for some, every in zip(shown[:2], outcomes[:2], strict=True):
            expected = np.take_along_axis(np.asarray(every), slate, axis=1)
            np.testing.assert_allclose(some, expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(shown.nothing, outcomes.nothing, atol=1e-6)
        pairs = list(itertools.combinations((0, 1, 3, 4), 2))
        for row, outcome in zip(slate, zip(*(np.float64(x) for x in outcomes), strict=True), strict=True):
            assert tuple(sorted(row.tolist())) == max(pairs, key=lambda pair: ratio(*outcome, list(pair)))


def test_values_are_in_their_unit_and_odds_are_not():
    observation = SPEC.empty_observation((3,))
    items = Items(popularity=jnp.ones(SPEC.num_items), is_new=jnp.zeros(SPEC.num_items, bool))
    params = moved(network().init(jax.random.key(0), observation, items), 1)
    one, ten = (network().clone(value_unit=unit).apply(params, observation, items) for unit in (1.0, 10.0))
    np.testing.assert_allclose(ten.values, 10 * one.values, rtol=1e-5)
    np.testing.assert_allclose(ten.nothing, 10 * one.nothing, rtol=1e-5)
    np.testing.assert_array_equal(ten.odds, one.odds)
    with pytest.raises(ValueError, match="value_unit is 0"):
        network().clone(value_unit=0.0).init(jax.random.key(0), observation, items)


def test_empty_slots_are_not_chosen():
    odds, chosen = jnp.array([[2.0, 7.0]]), jnp.array([[1.0, 0.0, 0.0]])
    found = choice_cross_entropy(odds, jnp.array([[True, False]]), chosen)
    np.testing.assert_allclose(found, np.log(np.exp(2.0) + 1) - 2.0, rtol=1e-6)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"DotProductQ is no nn\.SlateNetwork"):
        agents.slate_q(nn.DotProductQ.of(5), optax.sgd(0.1))
    with pytest.raises(ValueError, match="search is 'best'; choose one of"):
        agents.slate_q(network(), optax.sgd(0.1), search="best")
