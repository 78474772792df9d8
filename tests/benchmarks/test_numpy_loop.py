"""The peer of the throughput benchmark does the work of the compiled loop: same scores, same distributions."""

import sys
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

from recjax import agents, envs, nn
from recjax.loop import LoopConfig, Program
from recjax.rewards import click

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from _numpy_loop import NumpyLoop

ITEMS, USERS, STEPS, SEEDS, EPSILON = 200, 256, 40, 8, 0.1


@pytest.fixture(scope="module")
def both():
    """The compiled loop's state and metrics after a chunk, and the peers, one a seed with the same network."""
    env = envs.synthetic(num_items=ITEMS)
    network = nn.DotProductQ.of(num_items=ITEMS, dim=8)
    agent = agents.dqn(network, optax.adam(1e-3), policy=agents.SlatePolicy(epsilon=EPSILON))._replace(learn=None)
    program = Program(
        env, agent, LoopConfig(steps=STEPS, chunk=STEPS, eval_every=STEPS, users=USERS, seeds=SEEDS), click
    )
    begun = program.init(jax.random.key(0))
    own = begun.agent.params["params"]
    own["item_bias"] = 0.05 * jax.random.normal(jax.random.key(1), own["item_bias"].shape)
    state, metrics = program.chunk(begun)
    of_seed = [jax.tree.map(lambda leaf, seed=seed: leaf[seed], state.agent.params) for seed in range(SEEDS)]
    peers = [NumpyLoop(env, params, USERS, EPSILON, seed) for seed, params in enumerate(of_seed)]
    return network, env, state, metrics, of_seed, peers


def test_the_network_is_the_same_function(both):
    network, env, state, _, of_seed, peers = both
    observation = jax.tree.map(lambda leaf: leaf[0], state.users.observation)
    scores = network.apply(of_seed[0], observation, env.items)
    np.testing.assert_allclose(
        peers[0].network.scores(*map(np.asarray, (observation.history, observation.behaviour))), scores, atol=1e-5
    )


def test_every_metric_has_the_same_mean(both):
    *_, metrics, _, peers = both
    found = [peer.run(STEPS) for peer in peers]
    for name in found[0]:
        own, other = np.asarray(metrics[name], float), np.array([each[name] for each in found])
        # Paired by the network; a difference of a fifth would show in most of them.
        error = (own - other).std(ddof=1) / np.sqrt(SEEDS)
        assert abs((own - other).mean()) < 5 * error + 1e-6, (name, own, other)
        assert error < 0.05 * max(abs(own).mean(), 0.1), (name, error)
