"""Policy gradients against gradients by enumeration, formulas in NumPy, and problems with known answers."""

from __future__ import annotations

import dataclasses
import itertools
import re
from functools import partial

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from recjax import agents, envs, nn, testing
from recjax.agents.policy.distributions import Slates, Vectors
from recjax.agents.policy.gradient import Passes
from recjax.agents.slates import Selection
from recjax.catalogue import dense_scorer
from recjax.envs import Environment, Transition
from recjax.replay import Batch
from recjax.types import Candidates, Items, Response, Spec, Step

SPEC = Spec(num_items=3, slate_size=2, history_length=1)
SLATES = np.array(list(itertools.permutations(range(3), 2)))
LOGITS = np.log([0.5, 0.25, 0.25])
COUNTS = [3, 3, 2, 1, 2, 1]
"""How often each slate comes of twelve, by Plackett-Luce with these logits."""
EARNED = np.array([1.0, 0.0, 3.0, -1.0, 0.5, 2.0])
"""What each slate earns."""
OFF = agents.PolicyRegularizer(entropy=0.0)
ANY = {"exclude_history": False}


class Logits(linen.Module):
    """The same logits for every user."""

    start: tuple = tuple(LOGITS)

    @linen.compact
    def __call__(self, observation, items):
        logits = self.param("logits", lambda _: jnp.asarray(self.start, jnp.float32))
        return jnp.broadcast_to(logits, (observation.history.shape[0], len(self.start)))


class Nothing(linen.Module):
    """A critic that says 0 of everything and learns nothing."""

    @linen.compact
    def __call__(self, observation, items):
        return jnp.zeros(observation.history.shape[0])


ACTOR = nn.DenseNetwork(Logits())


def log_probs(logits, slates=SLATES):
    """Of slates of two, in float64, slot by slot."""
    share = np.exp(logits)
    first, second = share[slates[:, 0]], share[slates[:, 1]]
    return np.log(first / share.sum()) + np.log(second / (share.sum() - first))


def slope(function, logits=LOGITS, step=1e-5):
    """Central differences in float64."""
    ways = step * np.eye(len(logits))
    return np.array([(function(logits + way) - function(logits - way)) / (2 * step) for way in ways])


def of_params(params):
    return np.asarray(params["actor"]["params"]["module"]["logits"], np.float64)


def batch_of(slates, rewards, valid=None, **fields):
    """Users with one step each, after which they leave; ``rewards f32[B]`` are those of whole slates."""
    count = len(slates)
    rewards = jnp.zeros((count, 1, slates.shape[1])).at[:, 0, 0].set(jnp.asarray(rewards, jnp.float32))
    empty = SPEC.empty_observation((count, 1))
    steps = Step(
        observation=empty, slate=jnp.asarray(slates, jnp.int32)[:, None], log_prob=jnp.zeros((count, 1)), extras=None,
        response=Response(click=rewards), reward=rewards, terminated=jnp.ones((count, 1), bool),
        truncated=jnp.zeros((count, 1), bool), next_observation=empty,
    )  # fmt: skip
    valid = jnp.ones(count, bool) if valid is None else jnp.asarray(valid)
    return Batch(steps.replace(**fields), valid, jnp.arange(count), jnp.ones(count) / count)


def plain_items(count):
    return Items(popularity=jnp.ones(count), is_new=jnp.zeros(count, bool))


def one_step(agent, batch, spec=SPEC):
    """``(what a step of size 1 adds to the logits, the update)``."""
    state = agent.init(jax.random.key(0), spec, plain_items(spec.num_items))
    update = jax.jit(agent.learn)(jax.random.key(1), state, batch)
    return of_params(update.state.params) - of_params(state.params), update


ENUMERATED = np.repeat(np.arange(6), COUNTS)
LOG_PROB = jnp.asarray(log_probs(LOGITS)[ENUMERATED], jnp.float32)[:, None]
CRITICAL = {
    "a2c": partial(agents.a2c, ACTOR, Nothing()),
    "ppo": partial(agents.ppo, ACTOR, Nothing(), proximal=agents.Proximal(epochs=1, minibatches=1)),
}
FAMILY = {"reinforce": partial(agents.reinforce, ACTOR), "rloo": partial(agents.rloo, ACTOR)} | CRITICAL


@pytest.mark.parametrize("name", FAMILY)
def test_the_gradient_is_that_of_the_expected_reward_of_all_slates(name):
    """Every slate comes as often as the policy shows it, so the mean over the batch is the expectation."""
    assert np.allclose(np.exp(log_probs(LOGITS)) * 12, COUNTS)
    agent = FAMILY[name](optax.sgd(1.0), length=1, regularizer=OFF, **ANY)
    found, _ = one_step(agent, batch_of(SLATES[ENUMERATED], EARNED[ENUMERATED], log_prob=LOG_PROB))
    expected = slope(lambda logits: np.exp(log_probs(logits)) @ EARNED)
    # A baseline that leaves one out is exact for chance, and scales what is enumerated; PPO normalises.
    scale = {"rloo": 12 / 11, "ppo": 1 / EARNED[ENUMERATED].std()}.get(name, 1.0)
    np.testing.assert_allclose(found, scale * expected, atol=2e-6)


def test_the_regularisers_are_the_exact_entropy_and_divergence():
    regularizer = agents.PolicyRegularizer(entropy=0.3, kl=0.7)
    agent = agents.reinforce(ACTOR, optax.sgd(1.0), length=1, regularizer=regularizer, **ANY)
    state = agent.init(jax.random.key(0), SPEC, plain_items(3))
    moved = LOGITS + np.array([0.5, -0.2, 0.0])
    params = {"actor": {"params": {"module": {"logits": jnp.asarray(moved, jnp.float32)}}}}
    batch = batch_of(SLATES, np.zeros(6))
    update = jax.jit(agent.learn)(jax.random.key(1), state.replace(params=params), batch)

    def share(logits):
        return np.exp(logits) / np.exp(logits).sum()

    entropy = lambda logits: -(share(logits) @ np.log(share(logits)))  # noqa: E731
    divergence = lambda logits: share(logits) @ (np.log(share(logits)) - np.log(share(LOGITS)))  # noqa: E731
    np.testing.assert_allclose(update.metrics["entropy"], entropy(moved), rtol=1e-5)
    np.testing.assert_allclose(update.metrics["kl"], divergence(moved), rtol=1e-4)
    expected = slope(lambda logits: 0.3 * entropy(logits) - 0.7 * divergence(logits), moved)
    np.testing.assert_allclose(of_params(update.state.params) - moved, expected, atol=2e-6)


def test_the_correction_is_chens_formula():
    """Two slates that another policy has shown, one of which is much likelier now."""
    slates, each = np.array([[0, 1], [2, 0]]), np.array([[2.0, 0.5], [-1.0, 4.0]])
    shown = np.array([[0.2, 0.9], [0.001, 0.5]])
    batch = batch_of(slates, [0, 0])
    steps = batch.experience.replace(
        reward=jnp.asarray(each, jnp.float32)[:, None],
        extras={"propensity": jnp.asarray(shown, jnp.float32)[:, None]},
    )
    correction = agents.TopKCorrection(cap=3.0)
    agent = agents.reinforce(ACTOR, optax.sgd(1.0), length=1, correction=correction, regularizer=OFF, **ANY)
    found, _ = one_step(agent, batch._replace(experience=steps))
    share = np.exp(LOGITS)[slates]
    weight = np.minimum(share / shown, 3.0) * 2 * (1 - share)
    advantage = each - each.mean()
    of_item = lambda logits: (logits - np.log(np.exp(logits).sum()))[slates]  # noqa: E731
    expected = slope(lambda logits: (weight * advantage * of_item(logits)).sum(1).mean())
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_the_correction_asks_for_propensities():
    agent = agents.reinforce(ACTOR, optax.sgd(1.0), length=1, correction=agents.TopKCorrection(), **ANY)
    with pytest.raises(ValueError, match="do not say with what probability each slot was shown"):
        one_step(agent, batch_of(SLATES, EARNED))


def test_soft_actor_critic_raises_the_soft_value_and_learns_its_targets():
    """The actor's gradient is that of ``Σ π q + α H``; slots learn from their reward and the soft value after it."""
    values, alpha, gamma = np.array([0.5, -0.3, 0.2]), 0.4, 0.9
    critic = nn.DenseNetwork(Logits(start=tuple(values)))
    agent = agents.sac_discrete(
        ACTOR, critic, optax.sgd(1.0), discount=gamma, temperature=alpha, loss="mse", entropy_share=0.5, **ANY
    )
    ends = jnp.array([[True], [False]])
    batch = batch_of(np.array([[0, 1], [1, 2]]), [1.0, 0.0], terminated=ends)
    state = agent.init(jax.random.key(0), SPEC, plain_items(3))
    update = jax.jit(agent.learn)(jax.random.key(1), state, batch)

    def entropy(logits):
        share = np.exp(logits) / np.exp(logits).sum()
        return -(share @ np.log(share))

    soft = lambda logits: np.exp(logits) / np.exp(logits).sum() @ values + alpha * entropy(logits)  # noqa: E731
    np.testing.assert_allclose(of_params(update.state.params) - LOGITS, slope(soft), atol=2e-6)
    target = np.array([[1.0, 0.0], [gamma * soft(LOGITS)] * 2])
    errors = target - values[np.array([[0, 1], [1, 2]])]
    moved = np.array([errors[0, 0], errors[0, 1] + errors[1, 0], errors[1, 1]]) / 4
    for critic_params in update.state.params["critics"]:
        np.testing.assert_allclose(critic_params["params"]["module"]["logits"] - values, moved, atol=1e-6)
    np.testing.assert_allclose(update.metrics["loss"], 2 * 0.5 * (errors**2).mean(), rtol=1e-5)
    change = update.state.params["log_temperature"] - np.log(alpha)
    np.testing.assert_allclose(change, 0.5 * np.log(3) - entropy(LOGITS), rtol=1e-4)


@pytest.mark.parametrize("exclude", [None, [[1]]])
def test_what_is_told_of_slates_is_that_of_all_of_them(exclude):
    exclude = None if exclude is None else jnp.asarray(exclude)
    scores, other = (jnp.asarray([logits], jnp.float32) for logits in ([0.3, 9.0, -1.0, 0.0], [0.1, 0.2, 0.3, 0.4]))
    one, another = (Slates(Selection(*dense_scorer(x), exclude), 2) for x in (scores, other))
    all_slates = jnp.asarray(list(itertools.product(range(-1, 5), repeat=2)), jnp.int32)
    told = np.asarray(jax.vmap(lambda slate: one.told(slate[None], explore=True)[0])(all_slates), np.float64)
    np.testing.assert_allclose(np.exp(told).sum(), 1, rtol=1e-5)
    left = [0, 1, 2, 3] if exclude is None else [0, 2, 3]
    assert (told > -np.inf).sum() == len(left) * (len(left) - 1)
    shares = [np.exp(np.asarray(x)[0, left]) / np.exp(np.asarray(x)[0, left]).sum() for x in (scores, other)]
    np.testing.assert_allclose(one.cross_entropy(another)[0], -shares[0] @ np.log(shares[1]), rtol=1e-4)
    np.testing.assert_allclose(one.cross_entropy(one)[0], -shares[0] @ np.log(shares[0]), rtol=1e-3)


def test_vectors_are_normal():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    means, log_std, action = rng.normal(size=(5, 3)), rng.normal(size=3), rng.normal(size=(5, 3))
    one = Vectors(jnp.asarray(means, jnp.float32), jnp.asarray(log_std, jnp.float32))
    normals = stats.norm(means, np.exp(log_std))
    np.testing.assert_allclose(one.log_prob(jnp.asarray(action)), normals.logpdf(action).sum(1), rtol=1e-4)
    np.testing.assert_allclose(one.cross_entropy(one), np.full(5, normals.entropy().sum(1)), rtol=1e-5)
    other = Vectors(one.means + 0.3, one.log_std * 0.5)
    drawn = one.means[None] + jnp.exp(one.log_std)[None, None] * jax.random.normal(jax.random.key(0), (40_000, 5, 3))
    estimate = -jax.vmap(other.log_prob)(drawn).mean(0)
    np.testing.assert_allclose(one.cross_entropy(other), estimate, rtol=0.03)


def test_rows_that_do_not_count_change_nothing():
    agent = FAMILY["ppo"](optax.sgd(1.0), length=1, **ANY)
    slates = np.concatenate([SLATES, [[-1, -1], [0, 0]]])
    worthless = batch_of(slates, [*EARNED, 1e9, np.nan], [True] * 6 + [False] * 2, log_prob=jnp.zeros((8, 1)))
    found, update = one_step(agent, worthless)
    expected, same = one_step(agent, batch_of(SLATES, EARNED))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(update.metrics["loss"], same.metrics["loss"], rtol=1e-5)


def test_an_epoch_reads_every_row_once_and_each_in_another_order():
    rows = np.asarray(Passes(epochs=3, minibatches=4).rows(jax.random.key(0), 22)).reshape(3, -1)
    assert all(len(set(epoch)) == 20 for epoch in rows.tolist()), "two of 22 sit it out"
    assert (rows[0] != rows[1]).any()
    with pytest.raises(ValueError, match="minibatches is 4, but a rollout of all users has 3 steps"):
        Passes(minibatches=4).rows(jax.random.key(0), 3)


def trained(env, agent, rounds, users=16):
    """The agent's state after a closed loop, and its metrics; episodes that end make room for new ones."""
    buffer = agent.memory.make(64 * users)
    arrive = lambda key: jax.vmap(env.reset, in_axes=(0, None, None))(jax.random.split(key, users), env.params, None)  # noqa: E731

    def serve(serving, key, state):
        observation, hidden = serving
        keys = jax.random.split(key, 3)
        action = agent.act(keys[0], state, observation, explore=True)
        after, hidden, response, *ends, _ = jax.vmap(env.step, in_axes=(0, 0, 0, None, None))(
            jax.random.split(keys[1], users), hidden, action.slate, env.params, None
        )
        step = Step(observation, *action, response, response[env.spec.signals[0].name], *ends, after)
        done = ends[0] | ends[1]
        stays = lambda new, old: jnp.where(done.reshape(-1, *[1] * (new.ndim - 1)), new, old)  # noqa: E731
        return jax.tree.map(stays, arrive(keys[2]), (after, hidden)), step

    def body(carry, key):
        def remember(carry, key):
            serving, step = serve(carry[0], key, state)
            return (serving, buffer.add(carry[1], step)), None

        *interaction, state = carry
        steps = jax.random.split(key, agent.memory.period or 1)
        interaction, _ = jax.lax.scan(remember, tuple(interaction), steps)
        update = agent.learn(key, state, buffer.sample(key, interaction[1], 4 * users))
        return (*interaction, update.state), update.metrics

    @jax.jit
    def run(key):
        serving, state = arrive(key), agent.init(key, env.spec, env.items)
        step = jax.eval_shape(serve, serving, key, state)[1]
        memory = buffer.init(jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), step))
        (*_, state), metrics = jax.lax.scan(body, (serving, memory, state), jax.random.split(key, rounds))
        return state, metrics

    return run(jax.random.key(0))


class OfState(linen.Module):
    """Numbers that depend on the last item and the context, which tell the states of probes apart."""

    size: int

    @linen.compact
    def __call__(self, observation, items):
        state = jax.nn.one_hot(observation.history[:, -1] + 1, 4)
        if observation.context is not None:
            state = jnp.concatenate([state, observation.context], axis=1)
        found = linen.Dense(self.size, kernel_init=linen.initializers.zeros)(state)
        return found if self.size > 1 else found[:, 0]


def solver(name, items, **options):
    """A member of the family with linear networks, by the name that it is registered under."""
    network = nn.DenseNetwork(OfState(items))
    critics = {"sac_discrete": (network,)} | dict.fromkeys(("a2c", "ppo"), (OfState(1),))
    optimizer = optax.adam(3e-2)
    return agents.agents.make(name, network, *critics.get(name, ()), optimizer, discount=0.9, **ANY, **options)


@pytest.mark.parametrize("name", ["reinforce", "rloo", "a2c", "ppo", "sac_discrete"])
def test_a_policy_that_looks_ahead_is_found(name):
    """On the chain what pays at once is the worse choice at first."""
    env = envs.environments.make("probe_chain")
    options = (
        {"entropy_share": 0.1, "target": agents.TargetNetwork(tau=0.1)} if name == "sac_discrete" else {"length": 6}
    )
    agent = solver(name, env.spec.num_items, **options)
    state, _ = trained(env, agent, rounds=300 if name == "sac_discrete" else 60)
    observations, q = testing.q_values("probe_chain", 0.9)
    first = jax.tree.map(lambda x: x[:2], observations)
    slate = agent.act(jax.random.key(0), state, first, explore=False).slate[:, 0]
    np.testing.assert_array_equal(slate[:1], q.argmax(1)[:1])
    assert jnp.exp(agent.log_prob(state, first, slate[:, None]))[0] > 0.8


@pytest.mark.parametrize("probe", ["probe_context", "probe_choice"])
def test_the_correction_finds_what_pays(probe):
    """Off-policy from replay, where most steps are of earlier policies."""
    env = envs.environments.make(probe)
    agent = solver("reinforce", env.spec.num_items, length=1, correction=agents.TopKCorrection())
    state, _ = trained(env, agent, rounds=150)
    observations, q = testing.q_values(probe, 0.9)
    slate = agent.act(jax.random.key(0), state, observations, explore=False).slate[:, 0]
    np.testing.assert_array_equal(slate, q.argmax(1))


def test_a_critic_learns_that_a_cut_is_no_end():
    """A reward of 1 for ever is worth ``1 / (1 - γ)``, though nobody is followed for more than five steps."""
    env = envs.environments.make("probe_truncation")
    agent = solver("a2c", env.spec.num_items, length=8)
    state, _ = trained(env, agent, rounds=400)
    found = OfState(1).apply(state.params["critic"], env.spec.empty_observation((1,)), env.items)
    np.testing.assert_allclose(found, 10.0, atol=0.15)


def vectors():
    """Vectors of two numbers, of which the best is what the context says."""
    spec = Spec(num_items=1, slate_size=1, history_length=1, context_size=2, action_size=2)

    def observe(key):
        return spec.empty_observation().replace(context=jax.random.uniform(key, (2,), minval=-0.5, maxval=0.5))

    def reset(key, params, world):
        observation = observe(key)
        return observation, observation.context

    def step(key, wanted, action, params, world):
        observation, ends = observe(key), jnp.array(True)
        response = Response(click=-jnp.square(action - wanted).sum()[None])
        return Transition(observation, observation.context, response, ends, ~ends, {})

    return Environment(spec, (), plain_items(1), reset, step)


def test_vectors_follow_the_context():
    env = vectors()
    rate = optax.cosine_decay_schedule(1e-2, 8 * 300)
    agent = agents.ppo(
        nn.GaussianPolicy(nn.ContextVector(2, (16,)), 2), nn.ContextValue((16,)), optax.adam(rate), length=4,
        proximal=agents.Proximal(epochs=4, minibatches=2), regularizer=OFF,
    )  # fmt: skip
    state, _ = trained(env, agent, rounds=300, users=64)
    wanted = jnp.array([[0.4, -0.4], [-0.4, 0.4], [0.3, 0.3], [0, 0]])
    observation = env.spec.empty_observation((4,)).replace(context=wanted)
    found = agent.act(jax.random.key(0), state, observation, explore=False).slate
    np.testing.assert_allclose(found, wanted, atol=0.12)
    assert agent.scores is None
    drawn = agent.act(jax.random.key(0), state, observation, explore=True)
    np.testing.assert_allclose(agent.log_prob(state, observation, drawn.slate), drawn.log_prob, rtol=1e-5)
    assert (agent.log_prob(state, observation, found, explore=False) == 0).all()
    assert (agent.log_prob(state, observation, drawn.slate, explore=False) == -jnp.inf).all()


ORDER = np.array([2, -1, 0, 1])
"""Candidates that are the whole catalogue, and an empty place."""


@pytest.mark.parametrize("name", ["reinforce", "sac_discrete"])
def test_candidates_that_are_the_whole_catalogue_change_nothing(name):
    make = {"reinforce": lambda: agents.reinforce(ACTOR, optax.sgd(1.0), length=1, regularizer=OFF, **ANY)}
    make["sac_discrete"] = lambda: agents.sac_discrete(ACTOR, ACTOR, optax.sgd(1.0), **ANY)
    agent, batch = make[name](), batch_of(SLATES, EARNED, terminated=jnp.zeros((6, 1), bool))
    seen = batch.experience.observation
    there = seen.replace(candidates=Candidates(jnp.broadcast_to(jnp.asarray(ORDER, jnp.int32), (6, 1, 4))))
    place = np.argsort(ORDER)[1:]
    steps = batch.experience.replace(
        observation=there, next_observation=there, slate=jnp.asarray(place[SLATES], jnp.int32)[:, None]
    )
    spec = dataclasses.replace(SPEC, num_candidates=4)
    found, update = one_step(agent, batch._replace(experience=steps), spec)
    expected, same = one_step(agent, batch)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(update.metrics["loss"], same.metrics["loss"], rtol=1e-5)
    one = jax.tree.map(lambda x: x[:, 0], there)
    drawn = agent.act(jax.random.key(0), update.state, one, explore=True)
    assert not (drawn.slate == 1).any(), "nothing is there"
    np.testing.assert_allclose(agent.log_prob(update.state, one, drawn.slate), drawn.log_prob, rtol=1e-5)


@pytest.mark.parametrize("name", ["reinforce", "sac_discrete"])
def test_no_array_holds_every_item_of_every_user(name):
    users = 8
    spec = Spec(num_items=100_000, slate_size=2, history_length=3)
    items = jax.eval_shape(lambda: plain_items(spec.num_items))
    network, optimizer = nn.DotProductQ.of(num_items=spec.num_items, dim=4), optax.sgd(0.1)
    agent = {
        "reinforce": lambda: agents.reinforce(
            network, optimizer, length=1, regularizer=agents.PolicyRegularizer(0.1, kl=0.1)
        ),
        "sac_discrete": lambda: agents.sac_discrete(network, network, optimizer),
    }[name]()
    batch = batch_of(np.tile(SLATES[:1], (users, 1)), np.ones(users))
    empty = spec.empty_observation((users, 1))
    batch = batch._replace(experience=batch.experience.replace(observation=empty, next_observation=empty))

    def run(key, items):
        state = agent.init(key, spec, items)
        seen = spec.empty_observation((users,))
        return agent.learn(key, state, batch)[:2], agent.act(key, state, seen, explore=True)

    shapes = re.findall(r"\[([\d,]+)\]", str(jax.make_jaxpr(run)(jax.random.key(0), items)))
    sizes = [tuple(map(int, shape.split(","))) for shape in shapes]
    assert max(int(np.prod(shape)) for shape in sizes if shape[0] == users) < users * spec.num_items / 4


def test_an_actor_starts_from_trained_towers():
    spec, items = Spec(num_items=9, slate_size=2, history_length=3), plain_items(9)
    source = nn.Recommendation.of(num_items=9, dim=4)
    trained = jax.jit(source.init)(jax.random.key(7), spec.empty_observation((1,)), items)
    agent = agents.reinforce(source, optax.adam(1e-3), regularizer=agents.PolicyRegularizer(kl=0.1))
    state = agent.init(jax.random.key(0), spec, items, params=trained)
    jax.tree.map(np.testing.assert_array_equal, state.params["actor"], trained)
    jax.tree.map(np.testing.assert_array_equal, state.reference, trained)


VECTORS = nn.GaussianPolicy(nn.ContextVector(3), 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: agents.PolicyRegularizer(kl=-1.0), "PolicyRegularizer.kl is -1.0"),
        (lambda: agents.TopKCorrection(cap=0.0), "TopKCorrection.cap is 0.0"),
        (lambda: agents.Proximal(clip=0.0), "Proximal.clip is 0.0"),
        (lambda: agents.Proximal(epochs=0), "epochs is 0"),
        (lambda: agents.a2c(ACTOR, Nothing(), optax.sgd(1.0), gae_lambda=2.0), "gae_lambda is 2.0"),
        (lambda: agents.reinforce(ACTOR, optax.sgd(1.0), discount=1.5), "discount is 1.5"),
        (lambda: agents.reinforce(Nothing(), optax.sgd(1.0)), "Nothing is no policy"),
        (lambda: agents.sac_discrete(ACTOR, ACTOR, optax.sgd(1.0), entropy_share=-0.1), "entropy_share is -0.1"),
        (lambda: agents.sac_discrete(ACTOR, ACTOR, optax.sgd(1.0), temperature=0.0), "temperature is 0.0"),
        (
            lambda: agents.reinforce(VECTORS, optax.sgd(1.0), correction=agents.TopKCorrection()),
            "A TopKCorrection is of slates",
        ),
    ],
)
def test_bad_options_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_problems_that_do_not_fit_are_refused():
    agent = agents.ppo(VECTORS, nn.ContextValue(), optax.sgd(1.0))
    with pytest.raises(ValueError, match=r"GaussianPolicy\.size is 3, but Spec\.action_size is 2"):
        agent.init(jax.random.key(0), vectors().spec, plain_items(1))
    with pytest.raises(ValueError, match=r"Observation\.context, which is None"):
        nn.ContextValue().init(jax.random.key(0), SPEC.empty_observation((1,)), plain_items(3))
