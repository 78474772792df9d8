"""DDPG, TD3 and SAC against float64 and rlax, and on users whose best vectors and items are known."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.stats import norm

from recjax import agents, loop, nn, testing
from recjax.agents.continuous import squashed_log_prob, temperature_loss
from recjax.replay import Batch
from recjax.types import Feature, Response, Spec, Step

rlax = pytest.importorskip("rlax")

USERS, SIZE, GAMMA = 6, 3, 0.9
SPEC = Spec(1, 1, 1, context_size=2, action_size=SIZE)
ACTOR, GAUSSIAN = agents.VectorActor(SIZE, widths=(5,)), agents.GaussianActor(SIZE, widths=(5,))
CRITIC = agents.VectorCritic(widths=(7, 4))
OPTIMIZERS = optax.sgd(0.5), optax.sgd(0.1)
FOLLOW = agents.TargetNetwork(tau=0.25)


def batch(seed=0):
    """Vectors that were shown; users leave, sessions are cut, and one row is not valid."""
    rng = np.random.default_rng(seed)
    f32 = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
    seen = lambda: SPEC.empty_observation((USERS, 1)).replace(context=f32(USERS, 1, 2))  # noqa: E731
    reward = f32(USERS, 1, 1)
    ends = jnp.asarray([[True], [False], [False], [True], [False], [False]])
    vectors = jnp.asarray(rng.uniform(-1, 1, (USERS, 1, SIZE)), jnp.float32)
    step = Step(
        seen(), vectors, jnp.zeros((USERS, 1)), None, Response(clicks=reward), reward, ends, jnp.roll(ends, 1), seen()
    )
    return Batch(step, jnp.ones(USERS, bool).at[4].set(False), jnp.arange(USERS), jnp.ones(USERS))


def begun(agent, kit):
    """A state whose networks and targets all differ, and whose last layers say something."""
    items = kit.make_items(1)

    def moved(tree, seed):
        leaves, form = jax.tree.flatten(tree)
        keys = jax.random.split(jax.random.key(seed), len(leaves))
        noisy = [x + 0.3 * jax.random.normal(key, x.shape) * (x.ndim > 0) for x, key in zip(leaves, keys, strict=True)]
        return jax.tree.unflatten(form, noisy)

    def init(key):
        state, names = agent.init(key, SPEC, items), ("actor", "critic", "target_actor", "target_critic")
        return state.replace(**{name: moved(getattr(state, name), seed) for seed, name in enumerate(names)})

    return jax.jit(init)(jax.random.key(0))


def values(params, observation, vectors):
    """Of each critic, ``f64[C, B]``."""
    each = jax.jit(jax.vmap(lambda one: CRITIC.apply(one, observation, vectors[:, None], None)[:, 0]))
    return np.asarray(each(params), float)


def first(rows):
    step = jax.tree.map(lambda x: x[:, 0], rows.experience)
    return step, np.asarray(rows.valid)


# Losses.


def test_density_of_squashed_vectors_is_that_of_what_was_squashed():
    rng = np.random.default_rng(0)
    u, mean, log_std = rng.normal(size=(3, 50, 4)) * np.array([1.5, 1.0, 0.5])[:, None, None]
    wanted = np.sum(norm.logpdf(u, mean, np.exp(log_std)) - np.log(1 - np.tanh(u) ** 2), axis=-1)
    found = squashed_log_prob(*(jnp.asarray(x, jnp.float32) for x in (np.tanh(u), mean, log_std)))
    np.testing.assert_allclose(found, wanted, rtol=2e-3, atol=2e-3)
    grid = np.linspace(-1, 1, 20_001)[1:-1]
    along = jnp.asarray(grid[:, None], jnp.float32)
    density = np.exp(squashed_log_prob(along, jnp.full_like(along, 0.4), jnp.full_like(along, -0.5)))
    np.testing.assert_allclose(np.trapezoid(density, grid), 1.0, rtol=1e-3)


def test_temperature_grows_while_the_entropy_is_too_small():
    slope = jax.grad(lambda log: jnp.mean(temperature_loss(log, jnp.array([1.0, 3.0]), 1.5)))(0.2)
    np.testing.assert_allclose(slope, -(2.0 + 1.5))


@pytest.mark.parametrize("name", ["ddpg", "td3"])
def test_critics_learn_from_what_the_target_networks_say(name, kit):
    options = {} if name == "ddpg" else {"target_noise": (0.0, 0.5)}
    agent = agents.agents.make(name, ACTOR, CRITIC, *OPTIMIZERS, discount=GAMMA, target=FOLLOW, **options)
    state, rows = begun(agent, kit), batch()
    step, valid = first(rows)
    vector_t = ACTOR.apply(state.target_actor, step.next_observation, None)
    v_t = values(state.target_critic, step.next_observation, vector_t).min(0)
    target = np.asarray(step.reward[:, 0], float) + GAMMA * ~np.asarray(step.terminated) * v_t
    errors = target - values(state.critic, step.observation, step.slate)
    assert len(errors) == (1 if name == "ddpg" else 2)
    _, metrics, _ = jax.jit(agent.learn)(jax.random.key(1), state, rows)
    np.testing.assert_allclose(metrics["loss"], np.mean(errors[:, valid] ** 2 / 2), rtol=1e-4)


def test_the_actor_climbs_the_deterministic_policy_gradient(kit):
    agent = agents.ddpg(ACTOR, CRITIC, *OPTIMIZERS, discount=GAMMA, target=FOLLOW)
    state, rows = begun(agent, kit), batch()
    step, valid = first(rows)
    after, metrics, _ = jax.jit(agent.learn)(jax.random.key(1), state, rows)
    one = jax.tree.map(lambda x: x[0], after.critic)

    def value(vector, context):
        seen = SPEC.empty_observation((1,)).replace(context=context[None])
        return CRITIC.apply(one, seen, vector[None, None], None)[0, 0]

    def loss(params):
        vectors = ACTOR.apply(params, step.observation, None)
        slopes = jax.vmap(jax.grad(value))(vectors, step.observation.context)
        return jnp.mean(jnp.sum(jax.vmap(rlax.dpg_loss)(vectors, slopes), axis=-1)[valid])

    wanted = jax.tree.map(lambda x, slope: x - 0.5 * slope, state.actor, jax.grad(loss)(state.actor))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6), after.actor, wanted)
    own = values(after.critic, step.observation, ACTOR.apply(state.actor, step.observation, None))[0]
    np.testing.assert_allclose(metrics["actor_loss"], -own[valid].mean(), rtol=1e-4)


def test_td3_moves_actor_and_targets_at_every_second_update(kit):
    agent = agents.td3(ACTOR, CRITIC, *OPTIMIZERS, target=FOLLOW, delay=2)
    learn, state = jax.jit(agent.learn), begun(agent, kit)
    once, metrics, _ = learn(jax.random.key(1), state, batch())
    assert np.isfinite(metrics["actor_loss"])
    for name in ("actor", "target_actor", "target_critic"):
        jax.tree.map(np.testing.assert_array_equal, getattr(once, name), getattr(state, name))
    twice = learn(jax.random.key(2), once, batch(1)).state
    mixed = jax.tree.map(lambda new, old: 0.25 * new + 0.75 * old, twice.critic, state.target_critic)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), twice.target_critic, mixed)
    assert any(jax.tree.leaves(jax.tree.map(lambda x, y: bool((x != y).any()), twice.actor, state.actor)))


def test_sac_weighs_entropy_against_what_is_earned(kit):
    agent = agents.sac(GAUSSIAN, CRITIC, *OPTIMIZERS, discount=GAMMA, target=FOLLOW, temperature=0.3, entropy=-0.5)
    state, rows = begun(agent, kit), batch()
    step, valid = first(rows)
    after, metrics, _ = jax.jit(agent.learn)(jax.random.key(3), state, rows)
    next_key, actor_key = jax.random.split(jax.random.key(3))

    def drawn(key, observation):
        mean, log_std = (np.asarray(x, float) for x in GAUSSIAN.apply(state.actor["network"], observation, None))
        u = mean + np.exp(log_std) * np.asarray(jax.random.normal(key, mean.shape), float)
        log_prob = np.sum(norm.logpdf(u, mean, np.exp(log_std)) - np.log(1 - np.tanh(u) ** 2), axis=-1)
        return jnp.asarray(np.tanh(u), jnp.float32), log_prob

    vector_t, log_prob_t = drawn(next_key, step.next_observation)
    v_t = values(state.target_critic, step.next_observation, vector_t).min(0) - 0.3 * log_prob_t
    target = np.asarray(step.reward[:, 0], float) + GAMMA * ~np.asarray(step.terminated) * v_t
    errors = target - values(state.critic, step.observation, step.slate)
    np.testing.assert_allclose(metrics["loss"], np.mean(errors[:, valid] ** 2 / 2), rtol=1e-3)
    vector, log_prob = drawn(actor_key, step.observation)
    worth = 0.3 * log_prob - values(after.critic, step.observation, vector).min(0)
    np.testing.assert_allclose(metrics["actor_loss"], worth[valid].mean(), rtol=1e-3)
    np.testing.assert_allclose(metrics["entropy"], -log_prob[valid].mean(), rtol=1e-3)
    moved = np.log(0.3) + 0.5 * (log_prob[valid].mean() - 0.5 * SIZE)
    np.testing.assert_allclose(np.log(metrics["temperature"]), moved, rtol=1e-3)


# Items.


def test_the_critic_takes_the_best_of_the_nearest_items(kit):
    rng = np.random.default_rng(2)
    spec, table = Spec(40, slate_size=2, history_length=2, context_size=2), rng.normal(size=(40, SIZE))
    items = kit.make_items(40).with_features(where=Feature(jnp.asarray(table, jnp.float32), "vectors"))
    agent = agents.ddpg(ACTOR, CRITIC, *OPTIMIZERS, nearest=agents.NearestItems(neighbours=5))
    state = agent.init(jax.random.key(0), spec, items)
    state = state.replace(
        critic=jax.tree.map(lambda x: x + 0.3 * jax.random.normal(jax.random.key(1), x.shape), state.critic)
    )
    context, history = (
        jnp.asarray(rng.normal(size=(USERS, 2)), jnp.float32),
        jnp.asarray(rng.integers(0, 40, (USERS, 2))),
    )
    seen = spec.empty_observation((USERS,)).replace(context=context, history=history.astype(jnp.int32))
    slate = jax.jit(agent.act, static_argnames="explore")(jax.random.key(2), state, seen, explore=False).slate
    unit = table / np.linalg.norm(table, axis=1, keepdims=True)
    cosines = np.asarray(ACTOR.apply(state.actor, seen, items), float) @ unit.T
    np.put_along_axis(cosines, np.asarray(history), -np.inf, axis=1)
    for user, row in enumerate(np.argsort(-cosines, axis=1)[:, :5]):
        one = seen.replace(**{k: getattr(seen, k)[user : user + 1] for k in ("history", "behaviour", "context")})
        valued = [values(state.critic, one, jnp.asarray(unit[item : item + 1], jnp.float32))[0, 0] for item in row]
        np.testing.assert_array_equal(slate[user], row[np.argsort(-np.array(valued))[:2]])


def test_histories_are_read_by_an_encoder(kit):
    spec = Spec(9, slate_size=1, history_length=2)
    encoder = nn.Recommendation.of(num_items=9, dim=4)
    actor, critic = agents.VectorActor(2, (3,), encoder), agents.VectorCritic((3,), encoder)
    agent = agents.ddpg(actor, critic, *OPTIMIZERS, nearest=agents.NearestItems(np.eye(9)[:, :2] + 0.1))
    state = agent.init(jax.random.key(0), spec, kit.make_items(9))
    shown = actor.apply(
        state.actor, spec.empty_observation((2,)).replace(history=jnp.array([[1, 2], [3, 4]])), state.items
    )
    assert shown.shape == (2, 2)
    assert (shown[0] != shown[1]).any()
    with pytest.raises(ValueError, match=r"no Observation\.context to read"):
        agents.ddpg(agents.VectorActor(2), critic, *OPTIMIZERS, nearest=agents.NearestItems(np.eye(9)[:, :2])).init(
            jax.random.key(0), spec, kit.make_items(9)
        )


# On users whose best vectors and items are known.

NETWORKS = agents.VectorCritic(), optax.adam(3e-3), optax.adam(1e-2)
FAST = {"target": agents.TargetNetwork(tau=0.05), "discount": GAMMA}
MAKE = {
    "ddpg": lambda **options: agents.ddpg(agents.VectorActor(2), *NETWORKS, noise=0.3, **FAST, **options),
    "td3": lambda **options: agents.td3(agents.VectorActor(2), *NETWORKS, noise=0.3, **FAST, **options),
    "sac": lambda **options: agents.sac(agents.GaussianActor(2), *NETWORKS, **FAST, **options),
}


def learned(agent, env, slates, updates=400):
    """The state after updates from two answers of random users to each of ``slates [B, ...]``, and the world."""
    rows = len(slates)

    def run(key):
        world, keys = env.world(key), jax.random.split(key, rows)
        seen, users = jax.vmap(env.reset, in_axes=(0, None, None))(keys, env.params, world)
        after = [jax.vmap(env.step, in_axes=(0, 0, 0, None, None))(keys, users, slates, env.params, world)]
        after.append(jax.vmap(env.step, in_axes=(0, 0, 0, None, None))(keys, after[0].state, slates, env.params, world))
        seen = (seen, after[0].observation)
        flags = jnp.zeros((2 * rows, 1), bool)
        both = lambda *trees: jax.tree.map(lambda *x: jnp.concatenate(x)[:, None], *trees)  # noqa: E731
        response = both(*(each.response for each in after))
        step = Step(
            both(*seen), both(slates, slates), jnp.zeros((2 * rows, 1)), None, response, response["earned"],
            both(*(each.terminated for each in after)), flags, both(*(each.observation for each in after)),
        )  # fmt: skip
        log = Batch(step, jnp.ones(2 * rows, bool), jnp.arange(2 * rows), jnp.ones(2 * rows))
        learn = lambda state, key: (agent.learn(key, state, log).state, None)  # noqa: E731
        return jax.lax.scan(learn, agent.init(key, env.spec, env.items), jax.random.split(key, updates))[0], world

    return jax.jit(run)(jax.random.key(0))


@pytest.mark.parametrize("name", MAKE)
def test_the_best_vectors_are_found(name):
    """From random vectors alone: what is learned is not bound to what was shown."""
    env, agent = testing.vector_targets(), MAKE[name]()
    vectors = jax.random.uniform(jax.random.key(1), (128, 2), minval=-1.0)
    state, _ = learned(agent, env, vectors)
    seen = env.spec.empty_observation((2,)).replace(context=jnp.array([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]]))
    shown = jax.jit(agent.act, static_argnames="explore")(jax.random.key(2), state, seen, explore=False).slate
    np.testing.assert_allclose(shown, env.params, atol=0.15)
    critic = jax.tree.map(lambda x: x[0], state.critic)
    worth = agents.VectorCritic().apply(critic, seen, env.params[:, None], env.items)[:, 0]
    np.testing.assert_allclose(worth, 1 + GAMMA, atol=0.25)


def test_the_best_items_are_found_near_vectors():
    env = testing.linear_bandit(num_items=60, dim=2, kinds=2, noise=0.1)
    agent = MAKE["ddpg"](nearest=agents.NearestItems(neighbours=5, exclude_history=False))
    slates = jax.random.randint(jax.random.key(1), (128, 1), 0, 60)
    state, world = learned(agent, env, slates)
    seen = env.spec.empty_observation((2,)).replace(context=jnp.eye(2))
    slate = jax.jit(agent.act, static_argnames="explore")(jax.random.key(2), state, seen, explore=False).slate
    regret = world.best[:, 0] - world.means[jnp.arange(2), slate[:, 0]]
    assert (regret < 0.1).all()


def test_densities_keep_the_contract():
    testing.check_agent(MAKE["sac"](), testing.vector_targets())


def test_the_probe_keeps_the_contract_and_its_optimum_earns_the_most():
    env = testing.vector_targets(steps=3)
    testing.check_environment(env)
    run = loop.episode_runner(env, agents.oracle(env.oracles["optimum"].choose), users=4, steps=9, reward="earned=1")
    np.testing.assert_allclose(run(jax.random.key(0), None).reward, 3.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: agents.ddpg(ACTOR, CRITIC, *OPTIMIZERS, noise=-1.0), r"noise is -1\.0"),
        (lambda: agents.ddpg(ACTOR, CRITIC, *OPTIMIZERS, discount=1.5), r"discount is 1\.5"),
        (lambda: agents.td3(ACTOR, CRITIC, *OPTIMIZERS, delay=0), "delay is 0"),
        (lambda: agents.sac(GAUSSIAN, CRITIC, *OPTIMIZERS, temperature=0.0), r"temperature is 0\.0"),
        (lambda: agents.NearestItems(neighbours=0), "neighbours is 0"),
        (lambda: testing.vector_targets(steps=0), "steps is 0"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_vectors_that_do_not_fit_are_refused(kit):
    def begin(spec, nearest=None, size=SIZE):
        agent = agents.ddpg(agents.VectorActor(size, (3,)), CRITIC, *OPTIMIZERS, nearest=nearest)
        agent.init(jax.random.key(0), spec, kit.make_items(spec.num_items))

    slates = Spec(9, slate_size=2, history_length=1, context_size=2)
    candidates = Spec(9, slate_size=2, history_length=1, context_size=2, num_candidates=4)
    for spec, nearest, message in (
        (slates, None, r"action_size is 0 and nearest None"),
        (SPEC, agents.NearestItems(np.ones((1, 3))), r"Spec\.action_size is 3 and nearest NearestItems"),
        (slates, agents.NearestItems(), "no feature of kind 'vectors'"),
        (slates, agents.NearestItems(np.ones((8, 3))), r"have shape \(8, 3\); they must be \(9, A\)"),
        (slates, agents.NearestItems(np.ones((9, 3)), neighbours=1), "neighbours is 1; a slate has 2 slots"),
        (slates, agents.NearestItems(np.ones((9, 4))), "The actor gives 3 numbers, but vectors of items have 4"),
        (candidates, agents.NearestItems(np.ones((9, 3))), "Slates are of candidates"),
    ):
        with pytest.raises(ValueError, match=message):
            begin(spec, nearest)
    with pytest.raises(ValueError, match=r"The actor gives 2 numbers, but Spec\.action_size asks for 3"):
        begin(SPEC, size=2)
