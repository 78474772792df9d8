"""What DQN may be given beside: Munchausen's reward, prioritised replay, distributions, noise. Definitions in NumPy."""

from __future__ import annotations

import dataclasses

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from recjax import agents, nn
from recjax.types import Candidates, Spec

SPEC = Spec(num_items=4, slate_size=2, history_length=1)
GAMMA = 0.8
POLICY = agents.SlatePolicy(exclude_history=False)
CATEGORICAL, QUANTILES = nn.Categorical(-2.0, 3.0, 11), nn.Quantiles(5, huber=0.7)


class Rows(linen.Module):
    """``size`` numbers for every last item and item."""

    size: int

    @linen.compact
    def __call__(self, observation, items):
        shape = (items.num_items + 1, items.num_items, self.size)
        return self.param("table", linen.initializers.zeros, shape)[observation.history[:, -1]]


class NoisyRows(linen.Module):
    """A noisy layer over the last item."""

    @linen.compact
    def __call__(self, observation, items):
        return nn.NoisyDense(items.num_items)(jax.nn.one_hot(observation.history[:, -1] + 1, items.num_items + 1))


def random_log(kit, n=2, rows=24):
    rng = np.random.default_rng(0)
    ends = lambda: rng.random((rows, n)) < 0.25  # noqa: E731
    log = kit.windows(
        rng.integers(-1, 4, (rows, n)),
        rng.integers(-1, 4, (rows, n, 2)),
        rng.normal(size=(rows, n, 2)),
        rng.integers(-1, 4, (rows, n)),
        ends(),
        ends(),
        rng.random(rows) < 0.8,
    )
    return log._replace(probabilities=jnp.asarray(rng.uniform(0.01, 0.1, rows), jnp.float32))


def random_state(agent, items, seed=0):
    """A state whose two networks are drawn at random, and their tables in float64."""
    rng, state = np.random.default_rng(seed), agent.init(jax.random.key(0), SPEC, items)
    draw = lambda tree: jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), tree)  # noqa: E731
    state = dataclasses.replace(state, params=draw(state.params), target_params=draw(state.target_params))
    tables = (np.asarray(jax.tree.leaves(tree)[0], np.float64) for tree in (state.params, state.target_params))
    return state, *tables


def first_steps(log, n):
    """Of each valid window: state, slate, rewards, what is earned until the bootstrap, its discount, the state then."""
    steps = jax.tree.map(lambda x: np.asarray(x, np.float64 if x.dtype == jnp.float32 else x.dtype), log.experience)
    for row in np.flatnonzero(np.asarray(log.valid)):
        done = steps.terminated[row] | steps.truncated[row]
        last = int(np.argmax(done)) if done.any() else n - 1
        later = sum(GAMMA**t * steps.reward[row, t].mean() for t in range(1, last + 1))
        discount = 0.0 if steps.terminated[row, last] else GAMMA ** (last + 1)
        before, after = steps.observation.history[row, 0, -1], steps.next_observation.history[row, last, -1]
        yield row, before, steps.slate[row, 0], steps.reward[row, 0], later, discount, after


def learned_once(agent, state, log):
    return jax.jit(agent.learn)(jax.random.key(1), state, log)


@pytest.mark.parametrize("exclude", [True, False])
def test_munchausen_equals_its_definition(kit, exclude):
    tau, scale, floor = 0.5, 0.7, -0.9
    soft = agents.Munchausen(temperature=tau, scale=scale, floor=floor)
    agent = agents.dqn(
        kit.TableQ(4),
        optax.sgd(0.1),
        n_step=2,
        discount=GAMMA,
        loss=agents.TDLoss("mse", munchausen=soft),
        policy=agents.SlatePolicy(exclude_history=exclude),
    )
    state, online, target = random_state(agent, kit.make_items(4))
    log, errors = random_log(kit), []

    def log_sum(last):
        allowed = np.array([item != last or not exclude for item in range(4)])
        return np.log(np.exp(target[last][allowed] / tau).sum())

    for _, before, slate, reward, later, discount, after in first_steps(log, 2):
        for item, earned in zip(slate, reward, strict=True):
            if item < 0:
                continue
            never = exclude and item == before
            log_policy = -np.inf if never else target[before, item] / tau - log_sum(before)
            bonus = scale * np.clip(tau * log_policy, floor, 0)
            errors.append(earned + bonus + later + discount * tau * log_sum(after) - online[before, item])
    _, metrics, priorities = learned_once(agent, state, log)
    np.testing.assert_allclose(metrics["loss"], 0.5 * np.square(errors).mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics["td_error"], np.abs(errors).mean(), rtol=1e-5)
    assert priorities is None


def test_prioritised_replay_weighs_losses_and_gets_the_errors(kit):
    beta = (0.2, 0.8, 100)
    priorities = agents.Priorities(alpha=0.7, beta=beta)
    options = {"n_step": 2, "discount": GAMMA, "policy": POLICY, "double": False}
    agent = agents.dqn(kit.TableQ(4), optax.sgd(1.0), loss=agents.TDLoss("mse", priorities=priorities), **options)
    state, online, target = random_state(agent, kit.make_items(4))
    state = state.replace(step=jnp.int32(50))
    log = random_log(kit)
    probabilities, valid = np.asarray(log.probabilities, np.float64), np.asarray(log.valid)
    weights = (probabilities[valid].min() / probabilities) ** 0.5
    expected, losses = np.zeros(len(valid)), []
    slope = np.zeros_like(online)
    for row, before, slate, reward, later, discount, after in first_steps(log, 2):
        errors = [
            (item, earned + later + discount * target[after].max() - online[before, item])
            for item, earned in zip(slate, reward, strict=True)
            if item >= 0
        ]
        expected[row] = np.mean([abs(error) for _, error in errors]) if errors else 0
        losses += [weights[row] * error**2 / 2 for _, error in errors]
        for item, error in errors:
            slope[before, item] -= weights[row] * error
    after, metrics, found = learned_once(agent, state, log)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(metrics["loss"], np.mean(losses), rtol=1e-5)
    table = jax.tree.leaves(after.params)[0]
    np.testing.assert_allclose(table, online - slope / len(losses), rtol=1e-4, atol=1e-5)


def test_the_memory_follows_the_loss(kit):
    memory = agents.dqn(
        kit.TableQ(4), optax.sgd(1.0), n_step=3, loss=agents.TDLoss(priorities=agents.Priorities())
    ).memory
    assert memory.window == 3
    assert memory.make(100).update is not None
    assert agents.dqn(kit.TableQ(4), optax.sgd(1.0)).memory.make(100).update is None


def quantile_loss(outputs, reward, discount, after):
    """``sum_i mean_j |tau_i - [u_ij < 0]| huber(u_ij)``."""
    total = 0.0
    for i, quantile in enumerate(outputs):
        error = reward + discount * after - quantile
        k = QUANTILES.huber
        huber = np.where(np.abs(error) <= k, error**2 / 2, k * (np.abs(error) - k / 2))
        total += np.mean(np.abs((i + 0.5) / len(outputs) - (error < 0)) * huber)
    return total


def categorical_loss(outputs, reward, discount, after):
    """Cross-entropy to the next distribution, moved, whose masses go to their neighbours."""
    atoms, step = np.linspace(-2, 3, 11), 0.5
    target = np.zeros(11)
    for atom, mass in zip(atoms, np.exp(after) / np.exp(after).sum(), strict=True):
        place = (np.clip(reward + discount * atom, -2, 3) + 2) / step
        low = min(int(place), 9)
        target[low] += mass * (low + 1 - place)
        target[low + 1] += mass * (place - low)
    return -target @ (outputs - np.log(np.exp(outputs).sum()))


@pytest.mark.parametrize(("head", "double"), [(CATEGORICAL, True), (QUANTILES, True), (QUANTILES, False)])
def test_distributions_learn_by_their_definitions(kit, head, double):
    agent = agents.dqn(
        nn.DenseDistributionalNetwork(Rows(head.size), head),
        optax.sgd(0.1),
        n_step=2,
        discount=GAMMA,
        double=double,
        policy=POLICY,
    )
    state, online, target = random_state(agent, kit.make_items(4))
    is_categorical = head is CATEGORICAL

    def means(outputs):
        if not is_categorical:
            return outputs.mean(-1)
        mass = np.exp(outputs)
        return (mass / mass.sum(-1, keepdims=True)) @ np.linspace(-2, 3, 11)

    loss, log, losses, errors = categorical_loss if is_categorical else quantile_loss, random_log(kit), [], []
    for _, before, slate, reward, later, discount, after in first_steps(log, 2):
        best = means(online if double else target)[after].argmax()
        for item, earned in zip(slate, reward, strict=True):
            if item >= 0:
                losses.append(loss(online[before, item], earned + later, discount, target[after, best]))
                wanted = earned + later + discount * means(target)[after, best]
                errors.append(abs(wanted - means(online)[before, item]))
    _, metrics, _ = learned_once(agent, state, log)
    np.testing.assert_allclose(metrics["loss"], np.mean(losses), rtol=1e-5)
    np.testing.assert_allclose(metrics["td_error"], np.mean(errors), rtol=1e-5)


def chain(kit):
    """Every state and item of three states in a row: item 0 pays 1 and ends, or item 1 pays later."""
    state, item = np.repeat([-1, 0, 1], 2), np.tile([0, 1], 3)
    reward, successor = np.array([1, 0, 1, 1, 1, 1]), np.array([-1, 0, 1, 1, -1, -1])
    ends = [1, 0, 0, 0, 1, 1]
    log = kit.windows(
        state[:, None], item[:, None, None], reward[:, None, None], successor[:, None], np.array(ends)[:, None]
    )
    return log, reward.reshape(3, 2), np.array([[-1, 1], [2, 2], [-1, -1]])


def soft_values(reward, successor, soft):
    """The fixed point of Munchausen's values, in float64."""
    q = np.zeros((3, 2))
    for _ in range(2000):
        value = soft.temperature * np.log(np.exp(q / soft.temperature).sum(-1))
        bonus = soft.scale * np.clip(q - value[:, None], soft.floor, 0)
        q = reward + bonus + GAMMA * np.where(successor < 0, 0, value[successor])
    return q


MUNCHAUSEN = agents.Munchausen(temperature=0.2, scale=0.9, floor=-0.5)


@pytest.mark.parametrize(
    ("network", "options", "rate"),
    [
        (nn.DenseNetwork(NoisyRows(), noisy=True), {}, 0.03),
        (nn.DenseDistributionalNetwork(Rows(31), nn.Categorical(0.0, 3.0, 31)), {}, 0.1),
        (nn.DenseDistributionalNetwork(Rows(8), nn.Quantiles(8)), {}, 0.03),
        (None, {"loss": agents.TDLoss("mse", priorities=agents.Priorities())}, 0.03),
        (None, {"loss": agents.TDLoss("mse", munchausen=MUNCHAUSEN)}, 0.03),
    ],
    ids=["noisy", "categorical", "quantiles", "prioritised", "munchausen"],
)
def test_every_switch_finds_the_values_of_a_chain(kit, network, options, rate):
    log, reward, successor = chain(kit)
    network = kit.TableQ(2) if network is None else network
    target = agents.TargetNetwork(tau=0.1)
    agent = agents.dqn(network, optax.adam(rate), discount=GAMMA, policy=POLICY, target=target, **options)
    state, _ = kit.fit(agent, Spec(num_items=2, slate_size=1, history_length=1), log, 500)
    observation = kit.observe([-1, 0, 1])
    found = network.apply(state.params, observation, kit.make_items(2))
    later = 1 + GAMMA
    expected = np.array([[1, GAMMA * later], [later, later], [1, 1]])
    if "loss" in options and options["loss"].munchausen:
        expected = soft_values(reward, successor, MUNCHAUSEN)
        assert expected[0].argmax() == 1
    np.testing.assert_allclose(found, expected, atol=0.1 if network.is_noisy else 0.02)


def test_noise_explores_for_each_user_and_is_off_in_evaluation(kit):
    network = nn.DotProductQ.of(SPEC.num_items, dim=8, noisy=True)
    agent = agents.dqn(network, optax.sgd(1e-2), policy=agents.SlatePolicy(epsilon=0.0, exclude_history=False))
    assert agent.log_prob is None
    items = kit.make_items(SPEC.num_items)
    state = agent.init(jax.random.key(0), SPEC, items)
    users, act = kit.observe([2] * 64), jax.jit(agent.act, static_argnames="explore")
    explored = np.asarray(act(jax.random.key(1), state, users, explore=True).slate)
    assert len(np.unique(explored, axis=0)) > 2
    assert (explored != np.asarray(act(jax.random.key(2), state, users, explore=True).slate)).any()
    greedy = np.asarray(act(jax.random.key(1), state, users, explore=False).slate)
    assert len(np.unique(greedy, axis=0)) == 1
    without = {"params": {name: tree for name, tree in state.params["params"].items() if name != "noise"}}
    scores = nn.DotProductQ.of(SPEC.num_items, dim=8).apply(without, kit.observe([2]), items)
    np.testing.assert_array_equal(greedy[0], np.argsort(-scores[0])[:2])


def test_the_spread_of_noise_is_learned(kit):
    agent = agents.dqn(nn.DenseNetwork(NoisyRows(), noisy=True), optax.sgd(0.1), policy=POLICY)
    state = agent.init(jax.random.key(0), SPEC, kit.make_items(4))
    after, *_ = learned_once(agent, state, random_log(kit, n=1))
    before, moved = (tree["params"]["module"]["NoisyDense_0"]["kernel_spread"] for tree in (state.params, after.params))
    assert np.abs(moved - before).max() > 1e-3
    again, *_ = jax.jit(agent.learn)(jax.random.key(2), state, random_log(kit, n=1))
    assert (np.asarray(again.params["params"]["module"]["NoisyDense_0"]["kernel_spread"]) != np.asarray(moved)).any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: agents.TDLoss("l1"), "no loss named 'l1'"),
        (lambda: agents.Munchausen(temperature=0.0), r"Munchausen\.temperature is 0\.0"),
        (lambda: agents.Munchausen(scale=-1.0), r"Munchausen\.scale is -1\.0"),
        (lambda: agents.Munchausen(floor=0.5), r"Munchausen\.floor is 0\.5"),
        (lambda: agents.Priorities(beta=1.5), r"Priorities\.beta is 1\.5"),
        (lambda: agents.TDLoss(priorities=agents.Priorities(alpha=2.0)).memory(1), "alpha is 2.0"),
    ],
)
def test_bad_losses_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_what_does_not_go_together_is_named(kit):
    distributional, rate = nn.DenseDistributionalNetwork(Rows(5), QUANTILES), optax.sgd(0.1)
    for loss in ("mse", agents.TDLoss(munchausen=agents.Munchausen())):
        with pytest.raises(ValueError, match="learns distributions by a loss of their own"):
            agents.dqn(distributional, rate, loss=loss)
    items = kit.make_items(4)
    with pytest.raises(ValueError, match=r"is_noisy is False, but it has an nn\.NoisyDense; give noisy=True"):
        agents.dqn(nn.DenseNetwork(NoisyRows()), rate).init(jax.random.key(0), SPEC, items)
    with pytest.raises(ValueError, match=r"is_noisy is True, but it has no nn\.NoisyDense; give noisy=False"):
        agents.dqn(nn.DenseNetwork(Rows(1), noisy=True), rate).init(jax.random.key(0), SPEC, items)
    with pytest.raises(ValueError, match=r"Rows gives \(1, 4, 3\) for 1 users, 4 items and a Quantiles of size 5"):
        agents.dqn(nn.DenseDistributionalNetwork(Rows(3), QUANTILES), rate).init(jax.random.key(0), SPEC, items)


@pytest.mark.parametrize("kind", ["quantiles", "munchausen"])
def test_candidates_that_are_the_whole_catalogue_change_nothing(kit, kind):
    """Slates are positions then, here in another order for every row."""
    network, loss = kit.TableQ(4), agents.TDLoss("mse", munchausen=MUNCHAUSEN)
    if kind == "quantiles":
        network, loss = nn.DenseDistributionalNetwork(Rows(5), QUANTILES), agents.TDLoss()
    agent = agents.dqn(network, optax.sgd(0.1), discount=GAMMA, loss=loss)
    state, *_ = random_state(agent, kit.make_items(4))
    log, rng = random_log(kit, n=1), np.random.default_rng(2)
    steps = log.experience
    ids = rng.permuted(np.tile(np.arange(4), (*steps.terminated.shape, 1)), axis=-1)
    slate = np.where(steps.slate < 0, -1, np.argsort(ids)[np.arange(len(ids))[:, None, None], 0, steps.slate])
    offered = Candidates(jnp.asarray(ids, jnp.int32))
    steps = steps.replace(
        slate=jnp.asarray(slate, jnp.int32),
        observation=steps.observation.replace(candidates=offered),
        next_observation=steps.next_observation.replace(candidates=Candidates(jnp.asarray(ids[::-1], jnp.int32))),
    )
    wanted = learned_once(agent, state, log).metrics
    state = state.replace(spec=dataclasses.replace(SPEC, num_candidates=4))
    found = learned_once(agent, state, log._replace(experience=steps)).metrics
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), found, wanted)
