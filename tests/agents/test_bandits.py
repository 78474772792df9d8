"""Bandits against float64, enumerations and closed forms, and on problems whose best items are known."""

from __future__ import annotations

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.stats import norm

from recjax import agents, loop, testing
from recjax.agents.bandits import inverse_gap, ridge
from recjax.catalogue import dense_scorer
from recjax.replay import Batch
from recjax.types import Candidates, Feature, Observation, Response, Spec, Step

USERS, ITEMS, KINDS = 6, 12, 3
SPEC = Spec(ITEMS, slate_size=2, history_length=3, context_size=KINDS)


def kind(observation):
    return observation.context.argmax(-1)


@pytest.fixture(scope="module")
def items(kit):
    rng = np.random.default_rng(1)
    known = {
        "genre": Feature(jnp.eye(ITEMS)[:, :2], "multi_hot"),
        "year": Feature(_f32(rng.normal(size=(ITEMS, 1))), "numeric"),
    }
    return kit.make_items(ITEMS).with_features(**known)


def _f32(x):
    return jnp.asarray(x, jnp.float32)


def observations(seed=0, users=USERS, candidates=None):
    rng = np.random.default_rng(seed)
    history = jnp.asarray(rng.integers(0, ITEMS, (users, 3)), jnp.int32).at[0].set(-1)
    context = jax.nn.one_hot(jnp.arange(users) % KINDS, KINDS)
    return Observation(history, jnp.where(history < 0, -1, 1), context, candidates=candidates)


def steps(seed=0):
    """A batch of one step in which a slot is empty, one row is not valid and an item was shown to several."""
    rng = np.random.default_rng(seed)
    slate = jnp.asarray(rng.integers(0, 4, (USERS, 1, 2)), jnp.int32).at[1, 0, 1].set(-1)
    reward = _f32(rng.normal(size=(USERS, 1, 2)))
    flags, seen = jnp.zeros((USERS, 1), bool), jax.tree.map(lambda x: x[:, None], observations(seed))
    step = Step(seen, slate, jnp.zeros((USERS, 1)), None, Response(click=reward), reward, flags, flags, seen)
    return Batch(step, jnp.ones(USERS, bool).at[2].set(False), jnp.arange(USERS), jnp.ones(USERS))


# What is learned.


def test_ridge_in_float32_is_that_in_float64_after_many_steps():
    """Features of very different sizes, in four models of which one has seen hardly anything."""
    rng, models, width, batch, number = np.random.default_rng(0), 4, 6, 8, 3000
    features = rng.normal(size=(number, batch, width)) * np.logspace(0, 2, width)
    rows = rng.choice(models, p=[0.6, 0.2, 0.1999, 0.0001], size=(number, batch))
    rewards = features @ rng.normal(size=width) + rng.normal(size=(number, batch))

    def step(state, seen):
        return ridge.observe(state, *seen), None

    seen = _f32(features), jnp.asarray(rows), _f32(rewards)
    found = jax.jit(lambda: jax.lax.scan(step, ridge.prior(models, width, 2.0), seen)[0])()
    for row in range(models):
        known, earned = features[rows == row], rewards[rows == row]
        precision = 2.0 * np.eye(width) + known.T @ known
        root = np.asarray(found.root[row], float)
        np.testing.assert_allclose(found.mean[row], np.linalg.solve(precision, known.T @ earned), rtol=2e-3, atol=2e-4)
        np.testing.assert_allclose(np.linalg.eigvalsh(root.T @ precision @ root), 1.0, rtol=5e-3)


def test_one_model_learns_what_the_first_of_several_does():
    rng = np.random.default_rng(2)
    features, rewards, rows = _f32(rng.normal(size=(9, 4))), _f32(rng.normal(size=9)), jnp.zeros(9, jnp.int32)
    learn = jax.jit(ridge.observe)
    one, several = (learn(ridge.prior(models, 4, 1.0), features, rows, rewards) for models in (1, 3))
    np.testing.assert_allclose(one.mean[0], several.mean[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(one.root[0], several.root[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(several.root[1], jnp.eye(4))


def test_means_are_those_of_what_each_kind_of_users_was_shown(kit):
    agent = agents.ucb(agents.Means(agents.user_models(kind, KINDS)))
    state = agent.init(jax.random.key(0), SPEC, kit.make_items(ITEMS))
    sums, count = np.zeros((2, KINDS, ITEMS))
    learn = jax.jit(agent.learn)
    for seed in range(3):
        batch = steps(seed)
        state, metrics, _ = learn(jax.random.key(1), state, batch)
        for row, of in enumerate(np.asarray(kind(observations(seed)))):
            for item, reward in zip(batch.experience.slate[row, 0], batch.experience.reward[row, 0], strict=True):
                if item >= 0 and batch.valid[row]:
                    sums[of, item] += reward
                    count[of, item] += 1
    np.testing.assert_array_equal(state.model.count, count)
    np.testing.assert_array_equal(state.model.total, count.sum(1))
    np.testing.assert_allclose(state.model.mean, sums / np.maximum(count, 1), rtol=1e-5, atol=1e-6)
    assert np.isfinite(metrics["loss"])


MODELS = {
    "one for all": (agents.item_features, agents.ONE_MODEL),
    "one a user": (agents.item_features, agents.user_models(kind, KINDS)),
    "one an item": (agents.context_features, agents.item_models()),
    "crossed": (agents.crossed_features, agents.ONE_MODEL),
}


def design(name, observation, items):
    """Features ``f64[B, N, D]`` and models ``[B, N]``, from their definitions."""
    vectors = np.concatenate([items.features["genre"].values, items.features["year"].values], axis=1)
    vectors, users = (
        np.pad(x, ((0, 0), (0, 1)), constant_values=1.0) for x in (vectors, np.asarray(observation.context))
    )
    shape = len(users), ITEMS
    item, user = (np.broadcast_to(x, (*shape, x.shape[-1])) for x in (vectors[None], users[:, None]))
    rows = {"one a user": np.asarray(kind(observation))[:, None], "one an item": np.arange(ITEMS)[None]}.get(name, 0)
    known = {"one an item": user, "crossed": np.einsum("bni,bnj->bnij", user, item).reshape(*shape, -1)}.get(name, item)
    return known.astype(float), np.broadcast_to(rows, shape)


@pytest.mark.parametrize("name", MODELS)
def test_lin_ucb_shows_the_largest_bounds(name, items):
    agent = agents.ucb(agents.Linear(*MODELS[name]), width=0.7, regularisation=0.5, exclude_history=False)
    state, learn = agent.init(jax.random.key(0), SPEC, items), jax.jit(agent.learn)
    precision, products = {}, {}
    for seed in range(2):
        batch = steps(seed)
        features, rows = design(name, observations(seed), items)
        for user, slot in itertools.product(range(USERS), range(2)):
            item = int(batch.experience.slate[user, 0, slot])
            if item < 0 or not batch.valid[user]:
                continue
            phi, row = features[user, item], rows[user, item]
            precision[row] = precision.get(row, 0) + np.outer(phi, phi)
            products[row] = products.get(row, 0) + phi * float(batch.experience.reward[user, 0, slot])
        state = learn(jax.random.key(1), state, batch).state
    seen = observations(5)
    features, rows = design(name, seen, items)
    bound = np.zeros(rows.shape)
    for place, row in np.ndenumerate(rows):
        phi = features[place]
        covariance = np.linalg.inv(0.5 * np.eye(len(phi)) + precision.get(row, 0))
        bound[place] = phi @ covariance @ products.get(row, np.zeros(len(phi))) + 0.7 * np.sqrt(phi @ covariance @ phi)
    slate = jax.jit(agent.act)(jax.random.key(2), state, seen).slate
    found = np.take_along_axis(bound, np.asarray(slate), axis=1)
    np.testing.assert_allclose(found, -np.sort(-bound, axis=1)[:, :2], rtol=1e-4)


def test_candidates_are_rated_by_their_own_features(items):
    spec = Spec(ITEMS, slate_size=1, history_length=3, context_size=KINDS, num_candidates=3, candidate_size=1)
    features = _f32([[[0.1], [0.9], [0.5]]] * USERS)
    candidates = Candidates(jnp.asarray([[3, 4, -1]] * USERS), features)
    agent = agents.epsilon_greedy_bandit(agents.Linear(), policy=agents.SlatePolicy(exclude_history=False))
    state = agent.init(jax.random.key(0), spec, items)
    seen = observations(candidates=candidates)
    batch = steps()
    step = batch.experience.replace(
        observation=jax.tree.map(lambda x: x[:, None], seen),
        slate=jnp.asarray([[[0]], [[1]]] * (USERS // 2)),
        reward=_f32([[[2.0]], [[1.0]]] * (USERS // 2)),
    )
    act = jax.jit(agent.act, static_argnames="explore")
    learned = jax.jit(agent.learn)(jax.random.key(1), state, batch._replace(experience=step)).state
    assert (act(jax.random.key(2), learned, seen, explore=False).slate == 0).all(), "less of the feature earns more"
    with pytest.raises(ValueError, match=r"Candidates\.features is no array"):
        agents.item_features(
            observations(candidates=Candidates(candidates.ids, {"a": features})), items, jnp.zeros((USERS, 1), int)
        )


def test_neural_linear_regresses_on_its_own_features(items):
    network = agents.MLPFeatures(agents.crossed_features, (5, 3))
    regression = agents.NeuralLinear(network, optax.sgd(0.0), decay=0.5)
    agent = agents.thompson(regression, regularisation=2.0)
    state, learn = agent.init(jax.random.key(0), SPEC, items), jax.jit(agent.learn)
    squares = products = weight = count = 0.0
    for seed in range(3):
        batch = steps(seed)
        shown = jnp.maximum(batch.experience.slate[:, 0], 0)
        phi = np.asarray(network.apply(state.model.params["network"], observations(seed), items, shown), float)
        use = np.asarray((batch.experience.slate[:, 0] >= 0) & batch.valid[:, None])
        phi, earned = phi[use], np.asarray(batch.experience.reward[:, 0], float)[use]
        squares, products = 0.5 * squares + phi.T @ phi, 0.5 * products + earned @ phi
        weight, count = 0.5 * weight + len(phi), count + len(phi)
        state, metrics, _ = learn(jax.random.key(1), state, batch)
    precision = 2.0 * np.eye(phi.shape[1]) + count / weight * squares
    root = np.asarray(state.model.posterior.root[0], float)
    np.testing.assert_allclose(root @ root.T, np.linalg.inv(precision), rtol=1e-3, atol=1e-5)
    wanted = np.linalg.solve(precision, count / weight * products)
    np.testing.assert_allclose(state.model.posterior.mean[0], wanted, rtol=1e-3, atol=1e-5)
    # Its first weights are 0.
    np.testing.assert_allclose(metrics["network_loss"], np.mean(earned**2), rtol=1e-5)


# How it is explored.


@pytest.mark.parametrize("name", ["one for all", "one an item"])
def test_thompson_shows_an_item_as_often_as_it_may_be_the_best(name, kit):
    """Of two items that is a normal probability."""
    draws, spec = 20_000, Spec(2, slate_size=1, history_length=1)
    known = kit.make_items(2).with_features(size=Feature(_f32([[1.0], [0.3]]), "numeric"))
    agent = agents.thompson(agents.Linear(*MODELS[name]), width=0.8)
    state = agent.init(jax.random.key(0), spec, known)
    learn = jax.jit(agent.learn)
    for _ in range(3):
        state = learn(jax.random.key(1), state, _pair(spec)).state
    slate = jax.jit(agent.act)(jax.random.key(2), state, spec.empty_observation((draws,))).slate
    mean, root = (np.asarray(x, float) for x in (state.model.mean, state.model.root))
    phi = np.array([[1.0, 1.0], [0.3, 1.0]]) if name == "one for all" else np.ones((2, 1))
    if name == "one for all":
        gap, deviation = (phi[0] - phi[1]) @ mean[0], np.linalg.norm((phi[0] - phi[1]) @ root[0])
    else:
        gap, deviation = mean[0, 0] - mean[1, 0], np.hypot(root[0, 0, 0], root[1, 0, 0])
    chance = norm.cdf(gap / (0.8 * deviation))
    assert 0.55 < chance < 0.95
    np.testing.assert_allclose(np.mean(np.asarray(slate) == 0), chance, atol=4 * 0.5 / draws**0.5)


def _pair(spec):
    """Item 0 earns 1 twice, item 1 earns 0.2 once."""
    seen = jax.tree.map(lambda x: x[:, None], spec.empty_observation((3,)))
    reward, flags = _f32([[[1.0]], [[1.0]], [[0.2]]]), jnp.zeros((3, 1), bool)
    step = Step(
        seen,
        jnp.asarray([[[0]], [[0]], [[1]]]),
        jnp.zeros((3, 1)),
        None,
        Response(click=reward),
        reward,
        flags,
        flags,
        seen,
    )
    return Batch(step, jnp.ones(3, bool), jnp.arange(3), jnp.ones(3))


def by_gaps(scores, slate, gamma, excluded):
    """The probability of a slate, slot by slot in float64."""
    left, chance = [item for item in range(len(scores)) if item not in excluded], 1.0
    for item in slate:
        best = max(left, key=lambda i: scores[i])
        each = {i: 1 / (len(left) + gamma * (scores[best] - scores[i])) for i in left if i != best}
        chance *= each.get(item, 1 - sum(each.values()))
        left.remove(item)
    return chance


def test_inverse_gaps_weigh_every_slate():
    rng = np.random.default_rng(3)
    scores, gamma, exclude = rng.normal(size=(2, 5)), np.array([0.5, 8.0]), np.array([[4, -1], [-1, -1]])
    queries, catalogue = dense_scorer(_f32(scores))
    slates = np.array(list(itertools.permutations(range(5), 2)))
    options = {"gamma": _f32(gamma), "exclude": jnp.asarray(exclude)}
    found = jax.jit(jax.vmap(lambda s: inverse_gap.slot_log_probs(queries, catalogue, jnp.stack([s, s]), **options)))(
        jnp.asarray(slates)
    ).sum(-1)
    for row, excluded in enumerate(({4}, set())):
        possible = [i for i, slate in enumerate(slates) if not excluded & set(slate.tolist())]
        wanted = [by_gaps(scores[row], slates[i], gamma[row], excluded) for i in possible]
        np.testing.assert_allclose(np.sum(wanted), 1.0)
        np.testing.assert_allclose(np.exp(found[np.array(possible), row]), wanted, rtol=1e-4)


def test_inverse_gaps_are_drawn_as_they_say():
    rng, draws = np.random.default_rng(4), 20_000
    scores = rng.normal(size=4)
    queries, catalogue = dense_scorer(jnp.broadcast_to(_f32(scores), (draws, 4)))
    action = jax.jit(lambda key: inverse_gap.draw(key, queries, catalogue, 2, gamma=jnp.full(draws, 3.0)))(
        jax.random.key(0)
    )
    for slate in itertools.permutations(range(4), 2):
        drawn = np.all(np.asarray(action.slate) == slate, axis=1)
        wanted = by_gaps(scores, slate, 3.0, set())
        np.testing.assert_allclose(drawn.mean(), wanted, atol=4 * (wanted / draws) ** 0.5)
        np.testing.assert_allclose(np.exp(action.log_prob[drawn]), wanted, rtol=1e-4)


def test_the_last_item_that_is_left_is_certain():
    queries, catalogue = dense_scorer(_f32([[1.0, 2.0, 3.0]]))
    options = {"gamma": jnp.ones(1), "exclude": jnp.array([[0, 2]])}
    action = jax.jit(lambda key: inverse_gap.draw(key, queries, catalogue, 1, **options))(jax.random.key(0))
    assert (int(action.slate[0, 0]), float(action.log_prob[0])) == (1, 0.0)


def test_no_array_holds_every_item_of_every_user(kit):
    spec = Spec(100_000, slate_size=2, history_length=3)
    items = jax.eval_shape(
        lambda: kit.make_items(spec.num_items).with_features(v=Feature(jnp.zeros((spec.num_items, 4)), "vectors"))
    )

    def run(key, items):
        acts = []
        for rule in (agents.ucb, agents.thompson, agents.square_cb):
            agent = rule(agents.Linear())
            acts.append(agent.act(key, agent.init(key, spec, items), spec.empty_observation((USERS,))))
        return acts

    shapes = re.findall(r"\[([\d,]+)\]", str(jax.make_jaxpr(run)(jax.random.key(0), items)))
    sizes = [int(np.prod(shape)) for shape in (tuple(map(int, s.split(","))) for s in shapes) if shape[0] == USERS]
    assert max(sizes) < USERS * spec.num_items / 4


# On problems whose best items are known.

RULES = {
    "ucb": (agents.ucb, {"width": 0.5}),
    "thompson": (agents.thompson, {"width": 0.3}),
    "square_cb": (agents.square_cb, {"gamma": 10.0}),
}


def regret(env, agent, steps=400, seeds=4):
    """Of single users whose bandit learns at once, ``f64[2]``: per step in the first and in the second half."""
    flag = jnp.zeros((1, 1), bool)

    def play(key):
        world, state = env.world(key), agent.init(key, env.spec, env.items)
        seen, user = jax.tree.map(lambda x: x[None], env.reset(key, None, world))

        def step(state, key):
            slate = agent.act(key, state, seen).slate
            response = env.step(jax.random.fold_in(key, 1), user[0], slate[0], None, world).response
            answer, window = jax.tree.map(lambda x: x[None, None], response), jax.tree.map(lambda x: x[:, None], seen)
            chance, reward = jnp.zeros((1, 1)), answer["earned"]
            shown = Step(window, slate[:, None], chance, None, answer, reward, flag, flag, window)
            learned = agent.learn(key, state, Batch(shown, jnp.ones(1, bool), jnp.arange(1), jnp.ones(1))).state
            return agent.tick(learned), response["regret"][0]

        return jax.lax.scan(step, state, jax.random.split(key, steps))[1]

    found = jax.jit(jax.vmap(play))(jax.random.split(jax.random.key(0), seeds))
    return np.asarray(found, float).reshape(seeds, 2, -1).mean((0, 2))


@pytest.fixture(scope="module")
def problem():
    """An environment, and the regret of ε-greedy in it."""
    env = testing.linear_bandit(num_items=20, dim=4)
    policy = agents.SlatePolicy(epsilon=0.1, exclude_history=False)
    return env, regret(env, agents.epsilon_greedy_bandit(agents.Linear(), policy=policy))


@pytest.mark.parametrize("rule", RULES)
def test_a_bandit_regrets_less_than_chance_of_the_same_regression(rule, problem):
    make, options = RULES[rule]
    env, control = problem
    found = regret(env, make(agents.Linear(), exclude_history=False, **options))
    assert found.sum() < control.sum()
    assert found[1] < 0.6 * found[0]


@pytest.mark.parametrize("name", ["ucb", "square_cb"])
def test_bandits_keep_the_contract_with_users_of_several_kinds(name):
    env = testing.linear_bandit(num_items=9, dim=2, kinds=3, slate_size=2)
    regression = agents.NeuralLinear(agents.MLPFeatures(widths=(4,)), optax.sgd(0.1))
    if name == "ucb":
        regression = agents.Linear(models=agents.user_models(kind, 3))
    testing.check_agent(agents.agents.make(name, regression, exclude_history=False), env)


@pytest.mark.parametrize("make", [testing.linear_bandit, testing.bernoulli_bandit])
def test_problems_keep_the_contract_and_their_optimum_has_no_regret(make):
    env = make(num_items=7, kinds=2, slate_size=2)
    testing.check_environment(env)
    world = env.world(jax.random.key(1))
    slate = jnp.asarray([0, 3])
    keys = jax.random.split(jax.random.key(2), 4000)
    response = jax.jit(jax.vmap(lambda key: env.step(key, jnp.int32(1), slate, None, world).response))(keys)
    earned = response[env.spec.signals[0].name]
    np.testing.assert_allclose(earned.mean(0), world.means[1, slate], atol=0.03)
    best = -np.sort(-np.asarray(world.means[1]))[:2]
    np.testing.assert_allclose(response["regret"][0], best - np.asarray(world.means[1, slate]), rtol=1e-5)
    optimum = loop.episode_runner(
        env, agents.oracle(env.oracles["optimum"].choose), users=5, steps=2, reward="regret=1"
    )
    np.testing.assert_array_equal(optimum(jax.random.key(3), None).reward, 0.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: agents.ucb(agents.Means(), width=-1.0), r"width is -1\.0; it must be finite and at least 0"),
        (
            lambda: agents.ucb(agents.Linear(), regularisation=0.0),
            "regularisation is 0; it must be above 0",
        ),
        (lambda: agents.square_cb(agents.Means(), gamma=float("inf")), r"gamma is inf"),
        (lambda: agents.thompson(agents.Means()), "Means has nothing to draw from"),
        (lambda: agents.Means(agents.item_models()), "a mean for each item already"),
        (lambda: agents.user_models(kind, 0), "count is 0"),
        (lambda: agents.NeuralLinear(agents.MLPFeatures(), optax.sgd(0.1), decay=0.0), r"decay is 0\.0"),
        (lambda: testing.linear_bandit(dim=0), "dim is 0"),
        (lambda: testing.bernoulli_bandit(2, chances=(0.5,)), r"must be 2 numbers in \[0, 1\]"),
        (lambda: testing.bernoulli_bandit(kinds=0), "kinds is 0"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_features_that_tell_nothing_of_items_are_refused(kit):
    start = jax.random.key(0), Spec(5, 1, 1), kit.make_items(5)
    for features in (agents.item_features, agents.context_features):
        with pytest.raises(ValueError, match=f"{features.__name__} with one model says the same of all items"):
            agents.ucb(agents.Linear(features)).init(*start)
    with pytest.raises(ValueError, match=r"gives \(1, 2\); it must be \(1, 2, D\)"):
        agents.ucb(agents.Linear(lambda observation, items, choices: choices * 1.0)).init(*start)
    with pytest.raises(ValueError, match="no network to start from params"):
        agents.ucb(agents.Means()).init(*start, params={})
