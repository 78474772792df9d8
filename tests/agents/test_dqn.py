"""DQN against a dense rewrite in NumPy, and what its options promise."""

from __future__ import annotations

import dataclasses
import re

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from recjax import agents, fit, nn
from recjax.replay import Batch
from recjax.types import Observation, Response, Spec, Step, seed_axes

SPEC = Spec(num_items=12, slate_size=2, history_length=3)
BATCH = 9


@pytest.fixture(scope="module")
def items(kit):
    return kit.make_items(SPEC.num_items)


class WholeCatalogueQ(linen.Module):
    """One value an item, the same for all users."""

    @linen.compact
    def __call__(self, observation, items):
        values = self.param("values", linen.initializers.zeros, (items.num_items,))
        return jnp.broadcast_to(values, (observation.history.shape[0], items.num_items))


def random_sample(n, seed=0):
    rng = np.random.default_rng(seed)
    shape = (BATCH, n)

    def observation():
        history = jnp.asarray(rng.integers(-1, SPEC.num_items, (*shape, SPEC.history_length)), jnp.int32)
        return Observation(history=history, behaviour=jnp.where(history < 0, -1, 1))

    reward = jnp.asarray(rng.normal(size=(*shape, SPEC.slate_size)), jnp.float32)
    steps = Step(
        observation=observation(),
        slate=jnp.asarray(rng.integers(0, SPEC.num_items, (*shape, SPEC.slate_size)), jnp.int32),
        log_prob=jnp.zeros(reward.shape[:-1]),
        extras=None,
        response=Response(click=(reward > 0).astype(jnp.float32)),
        reward=reward,
        terminated=jnp.asarray(rng.random(shape) < 0.3),
        truncated=jnp.asarray(rng.random(shape) < 0.3),
        next_observation=observation(),
    )
    return Batch(steps, jnp.asarray(rng.random(BATCH) < 0.8), jnp.arange(BATCH), jnp.full(BATCH, 1.0 / BATCH))


def dense_errors(network, state, sample, n, double, exclude):
    """The TD errors ``[B, K]``, with every value of every item and loops over users and slots."""
    steps = jax.tree.map(np.asarray, sample.experience)
    apply = jax.jit(network.apply)
    at = lambda tree, row, column: jax.tree.map(lambda x: jnp.asarray(x[row, column])[None], tree)  # noqa: E731
    gamma = float(state.hparams.discount)
    errors = np.zeros((BATCH, SPEC.slate_size))
    for row in range(BATCH):
        last = next((t for t in range(n) if steps.terminated[row, t] or steps.truncated[row, t]), n - 1)
        after = at(steps.next_observation, row, last)
        value, online = (np.array(apply(p, after, state.items))[0] for p in (state.target_params, state.params))
        selector = online if double else value.copy()
        if exclude:
            selector[[i for i in after.history[0] if i >= 0]] = -np.inf
        discount = 0.0 if steps.terminated[row, last] else gamma ** (last + 1)
        later = sum(gamma**t * steps.reward[row, t].mean() for t in range(1, last + 1))
        q_tm1 = np.array(apply(state.params, at(steps.observation, row, 0), state.items))[0]
        for slot in range(SPEC.slate_size):
            target = steps.reward[row, 0, slot] + later + discount * value[selector.argmax()]
            errors[row, slot] = target - q_tm1[steps.slate[row, 0, slot]]
    return errors


@pytest.mark.parametrize(
    ("n", "double", "exclude", "loss", "network"),
    [
        (3, True, True, "huber", "dueling_dot_product"),
        (1, False, True, "mse", "mlp"),
        (2, True, False, "mse", "dot_product"),
    ],
)
def test_learn_equals_a_dense_rewrite(items, n, double, exclude, loss, network):
    network = nn.q_networks.make(network, item=nn.ItemTower(SPEC.num_items, 4), user=nn.UserTower(4))
    agent = agents.dqn(
        network,
        optax.sgd(0.1),
        n_step=n,
        double=double,
        policy=agents.SlatePolicy(exclude_history=exclude),
        loss=loss,
        discount=0.8,
    )
    state = agent.init(jax.random.key(0), SPEC, items)
    # A target of its own, so that a swap of the two networks would show.
    state = dataclasses.replace(state, target_params=agent.init(jax.random.key(1), SPEC, items).params)
    sample = random_sample(n)
    _, metrics, _ = jax.jit(agent.learn)(jax.random.key(0), state, sample)
    errors = dense_errors(network, state, sample, n, double, exclude)[np.asarray(sample.valid)]
    huber = np.where(np.abs(errors) <= 1, 0.5 * errors**2, np.abs(errors) - 0.5)
    np.testing.assert_allclose(metrics["loss"], (huber if loss == "huber" else 0.5 * errors**2).mean(), rtol=1e-4)
    np.testing.assert_allclose(metrics["td_error"], np.abs(errors).mean(), rtol=1e-4)


def learn_some(agent, state, updates):
    learn, states = jax.jit(agent.learn), [state]
    sample = random_sample(1)
    for _ in range(updates):
        states.append(learn(jax.random.key(0), states[-1], sample).state)
    return states


def test_a_hard_target_is_copied_every_period(kit, items):
    agent = agents.dqn(kit.TableQ(SPEC.num_items), optax.sgd(0.1), target=agents.TargetNetwork(period=2))
    states = learn_some(agent, agent.init(jax.random.key(0), SPEC, items), 4)
    table = lambda tree: np.asarray(tree["params"]["module"]["table"])  # noqa: E731
    for step, copied in enumerate([0, 0, 2, 2, 4]):
        np.testing.assert_array_equal(table(states[step].target_params), table(states[copied].params))
    assert (table(states[3].params) != table(states[2].params)).any()


def test_a_soft_target_moves_by_its_share(kit, items):
    agent = agents.dqn(kit.TableQ(SPEC.num_items), optax.sgd(0.1), target=agents.TargetNetwork(tau=0.25))
    before, after = learn_some(agent, agent.init(jax.random.key(0), SPEC, items), 1)
    table = lambda tree: np.asarray(tree["params"]["module"]["table"])  # noqa: E731
    expected = 0.75 * table(before.target_params) + 0.25 * table(after.params)
    np.testing.assert_allclose(table(after.target_params), expected, rtol=1e-6)


def test_the_target_copy_stays_a_branch_under_vmap(kit, items):
    agent = agents.dqn(kit.TableQ(SPEC.num_items), optax.sgd(0.1), target=agents.TargetNetwork(period=2))
    state = agent.init(jax.random.key(0), SPEC, items)
    axes = seed_axes(state)
    seeds = jax.vmap(lambda key: agent.init(key, SPEC, items), out_axes=axes)(jax.random.split(jax.random.key(0), 2))
    learn = jax.vmap(lambda *args: agent.learn(*args)[:2], in_axes=(None, axes, None), out_axes=(axes, 0))
    jaxpr = jax.make_jaxpr(learn)(jax.random.key(0), seeds, random_sample(1))
    conditionals = [eqn for eqn in jaxpr.jaxpr.eqns if eqn.primitive.name == "cond"]
    assert len(conditionals) == 1
    assert conditionals[0].invars[0].aval.shape == ()


def test_no_array_holds_every_item_of_every_user(kit):
    spec = Spec(num_items=100_000, slate_size=2, history_length=3)
    items = jax.eval_shape(lambda: kit.make_items(spec.num_items))

    def largest(network):
        """The most elements with a leading batch axis that acting and learning hold."""
        agent = agents.dqn(network, optax.sgd(0.1), policy=agents.SlatePolicy("boltzmann"))

        def run(key, items):
            state = agent.init(key, spec, items)
            return agent.learn(key, state, random_sample(1)), agent.act(
                key, state, spec.empty_observation((BATCH,)), explore=True
            )

        shapes = re.findall(r"\[([\d,]+)\]", str(jax.make_jaxpr(run)(jax.random.key(0), items)))
        sizes = [tuple(map(int, shape.split(","))) for shape in shapes]
        return max(int(np.prod(shape)) for shape in sizes if shape[0] == BATCH)

    assert largest(nn.DotProductQ.of(num_items=spec.num_items, dim=4)) < BATCH * spec.num_items / 4
    assert largest(nn.DenseNetwork(WholeCatalogueQ())) == BATCH * spec.num_items, "which is computed whole"


def test_warm_start_takes_towers_or_everything(items):
    network = nn.DotProductQ.of(num_items=SPEC.num_items, dim=4)
    source = nn.Recommendation.of(num_items=SPEC.num_items, dim=4)
    trained = jax.jit(source.init)(jax.random.key(7), SPEC.empty_observation((1,)), items)
    agent = agents.dqn(network, optax.adam(1e-3))
    own = agent.init(jax.random.key(0), SPEC, items).params
    state = agent.init(jax.random.key(0), SPEC, items, params=trained)
    jax.tree.map(np.testing.assert_array_equal, state.params["params"]["item"], trained["params"]["item"])
    jax.tree.map(np.testing.assert_array_equal, state.params, state.target_params)
    np.testing.assert_array_equal(state.params["params"]["scale"], own["params"]["scale"])
    again = agent.init(jax.random.key(1), SPEC, items, params=state.params)
    jax.tree.map(np.testing.assert_array_equal, again.params, state.params)
    with pytest.raises(ValueError, match="Nothing to start from"):
        agent.init(jax.random.key(0), SPEC, items, params={"params": {"else": jnp.zeros(3)}})


def test_donating_a_state_leaves_what_it_came_from(items):
    network = nn.DotProductQ.of(num_items=SPEC.num_items, dim=4)
    agent = agents.dqn(network, optax.adam(1e-3))
    source = agent.init(jax.random.key(0), SPEC, items).params
    learn = jax.jit(agent.learn, donate_argnums=1)
    for init in (agent.init, jax.jit(agent.init, static_argnums=1)):
        state = init(jax.random.key(0), SPEC, items, agent.hparams, source)
        learn(jax.random.key(0), state, random_sample(1))
        assert not any(leaf.is_deleted() for leaf in jax.tree.leaves((source, items)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "l1"}, "no loss named 'l1'"),
        ({"n_step": 0}, "n_step is 0"),
        ({"discount": 1.1}, "discount is 1.1"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        agents.dqn(nn.DotProductQ.of(num_items=5), optax.sgd(0.1), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"period": 5, "tau": 0.1}, "period=5 or tau=0.1"),
        ({"period": 0}, "period is 0"),
        ({"tau": 1.5}, "tau is 1.5"),
    ],
)
def test_bad_targets_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        agents.TargetNetwork(**options)


def test_bad_problems_are_named(kit, items):
    agent = agents.dqn(nn.DotProductQ.of(num_items=SPEC.num_items, dim=4), optax.sgd(0.1), n_step=2)
    with pytest.raises(ValueError, match=r"'spec': 12, 'items': 9, 'network': 12"):
        agent.init(jax.random.key(0), SPEC, kit.make_items(9))
    with pytest.raises(ValueError, match=r"needs 14 items.*has 12"):
        agent.init(jax.random.key(0), dataclasses.replace(SPEC, history_length=12), items)
    state = agent.init(jax.random.key(0), SPEC, items)
    with pytest.raises(ValueError, match=r"n_step=2.*has 1"):
        agent.learn(jax.random.key(0), state, random_sample(1))


def test_joint_training_adds_the_clicks_to_the_td_loss(items):
    """One step of gradient descent by both is the sum of the steps by each."""
    sample = random_sample(1)
    network, model = nn.DotProductQ.of(SPEC.num_items, dim=4), nn.Recommendation.of(SPEC.num_items, dim=4)
    rate, weight = 0.1, 0.5
    alone = agents.dqn(network, optax.sgd(rate))
    joint = agents.dqn(network, optax.sgd(rate), clicks=agents.ClickPrediction(model, weight))
    start = alone.init(jax.random.key(0), SPEC, items)
    by_td, *_ = jax.jit(alone.learn)(jax.random.key(1), start, sample)
    by_both, metrics, _ = jax.jit(joint.learn)(jax.random.key(1), joint.init(jax.random.key(0), SPEC, items), sample)

    step = jax.tree.map(lambda x: x[:, 0], sample.experience)
    clicked = np.asarray(step.response["click"]) * np.asarray(sample.valid)[:, None]

    def cross_entropy(towers):
        log_probs = model.apply({"params": towers}, step.observation, items, method="log_probs")
        return -(jnp.take_along_axis(log_probs, step.slate, axis=-1) * clicked).sum() / clicked.sum()

    towers = {name: start.params["params"][name] for name in ("user", "item")}
    value, slope = jax.jit(jax.value_and_grad(cross_entropy))(towers)
    assert float(metrics["supervised_loss"]) == pytest.approx(float(value), rel=1e-5)
    for name in towers:
        expected = jax.tree.map(lambda p, g: p - rate * weight * g, by_td.params["params"][name], slope[name])
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), by_both.params["params"][name], expected)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Recommendation.of(SPEC.num_items, dim=8), "DotProductQ.user.dim is 4 but Recommendation.user.dim is 8"),
        (nn.Recommendation.of(SPEC.num_items, dim=4, learn_temperature=True), "use learn_temperature=False"),
    ],
)
def test_joint_training_needs_the_same_towers(model, message):
    with pytest.raises(ValueError, match=message):
        agents.dqn(nn.DotProductQ.of(SPEC.num_items, dim=4), optax.sgd(0.1), clicks=agents.ClickPrediction(model))


@pytest.mark.parametrize("encoder", list(nn.history_encoders))
def test_any_encoder_is_a_state_encoder(encoder, items):
    agent = agents.dqn(nn.DotProductQ.of(SPEC.num_items, dim=4, encoder=encoder), optax.adam(0.01))
    state = agent.init(jax.random.key(0), SPEC, items)
    learned, metrics, _ = jax.jit(agent.learn)(jax.random.key(1), state, random_sample(1))
    assert np.isfinite(float(metrics["loss"]))
    moved = jax.tree.map(lambda x, y: float(jnp.abs(x - y).max()), learned.params, state.params)
    assert max(jax.tree.leaves(moved["params"]["user"])) > 0


def test_a_state_encoder_can_stay_frozen(items):
    network = nn.DotProductQ.of(SPEC.num_items, dim=4, encoder="gru")
    optimizer = fit.path_wise(fit.adamw(1e-2, weight_decay=0.1), lambda path: 0.0 if "user" in path else 1.0)
    agent = agents.dqn(network, optimizer)
    state = agent.init(jax.random.key(0), SPEC, items)
    learned, *_ = jax.jit(agent.learn)(jax.random.key(1), state, random_sample(1))
    moved = jax.tree.map(lambda x, y: float(jnp.abs(x - y).max()), learned.params, state.params)["params"]
    assert max(jax.tree.leaves(moved["user"])) == 0
    assert max(jax.tree.leaves(moved["item"])) > 1e-4
