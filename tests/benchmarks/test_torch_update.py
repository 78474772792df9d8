"""The PyTorch peer of the throughput benchmark does the work of the compiled update: the same parameters after it."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from recjax import agents, envs, nn
from recjax.catalogue import row_adam
from recjax.fit import RowWise
from recjax.loop import LoopConfig, Program
from recjax.rewards import click
from recjax.study import first_seed

pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from _torch_update import LEARNING_RATE, TorchUpdate, tensors

ITEMS, USERS, STEPS, BATCH = 60, 16, 12, 32


def replay_of(env, agent):
    """A replay that is full, of one seed."""
    config = LoopConfig(
        steps=STEPS, chunk=STEPS, eval_every=STEPS, users=USERS, seeds=1, batch_size=BATCH, learn_start=STEPS,
        replay_capacity=USERS * STEPS,
    )  # fmt: skip
    program = Program(env, agent, config, click)
    state, _ = program.chunk(program.init(jax.random.key(0)))
    return program.buffer, first_seed(state.replay)


def trained(state, seed):
    """The state with parameters as training leaves them: what is zero or small at first is neither."""
    own = dict(state.params["params"])
    keys = jax.random.split(jax.random.key(seed))
    own["item_bias"] = 0.1 * jax.random.normal(keys[0], own["item_bias"].shape)
    own["value"] = own["value"] | {"kernel": jax.random.normal(keys[1], own["value"]["kernel"].shape)}
    return state.replace(params={"params": own | {"scale": jnp.ones(())}})


@pytest.mark.parametrize("by_rows", [False, True], ids=["whole_table", "by_rows"])
def test_one_update_changes_the_same_parameters(by_rows):
    env = envs.synthetic(num_items=ITEMS)
    adam = optax.adam(LEARNING_RATE)
    agent = agents.dqn(
        nn.DotProductQ.of(num_items=ITEMS, dim=8),
        RowWise(row_adam(LEARNING_RATE), adam) if by_rows else adam,
        index_every=100 if by_rows else None,
    )
    buffer, replay = replay_of(env, agent)
    init = lambda seed, params=None: agent.init(jax.random.key(seed), env.spec, env.items, params=params)  # noqa: E731
    # A target network that is not the one that learns, so that each must be used where it belongs.
    own, valuing = (init(seed, trained(init(seed), seed).params) for seed in (6, 7))
    other = valuing.params
    own = own.replace(target_params=other, target_index=valuing.target_index)
    batch = buffer.sample(jax.random.key(1), replay, BATCH)
    updated, metrics, _ = agent.learn(jax.random.key(2), own, batch)

    peer = TorchUpdate(own.params, env.items, replay, BATCH, by_rows=by_rows)
    peer.target = type(peer.target)(other, peer.own.genres[:ITEMS], by_rows)
    steps = jax.tree.map(lambda leaf: np.asarray(leaf[:, 0]), batch.experience)
    padded = lambda ids, rows: np.where(ids < 0, rows - 1, ids).astype(np.int64)  # noqa: E731
    table, behaviours = len(peer.own.table), len(peer.own.behaviour)
    loss = peer.learn(tensors({
        "history": padded(steps.observation.history, table),
        "behaviour": padded(steps.observation.behaviour, behaviours),
        "next_history": padded(steps.next_observation.history, table),
        "next_behaviour": padded(steps.next_observation.behaviour, behaviours),
        "slate": steps.slate.astype(np.int64), "reward": steps.reward, "terminated": steps.terminated,
    }))  # fmt: skip
    assert float(loss) == pytest.approx(float(metrics["loss"]), rel=1e-4)
    found = updated.params["params"]
    pairs = {
        "table": found["item"]["embedding"].at[-1].set(0), "multi_hot": found["item"]["multi_hot"]["kernel"],
        "behaviour": jnp.pad(found["user"]["behaviour"], ((0, 1), (0, 0))), "cold_start": found["user"]["cold_start"],
        "kernel": found["user"]["output"]["kernel"], "scale": found["scale"], "value_kernel": found["value"]["kernel"],
        "item_bias": found["item_bias"],
    }  # fmt: skip
    for name, expected in pairs.items():
        difference = np.asarray(getattr(peer.own, name).detach()) - np.asarray(expected)
        # A tenth of a step. Where a gradient is no more than rounding, so is the sign that Adam's first step has.
        assert np.mean(np.abs(difference) > 0.1 * LEARNING_RATE) < 0.01, name


def test_it_samples_what_the_replay_holds():
    env = envs.synthetic(num_items=ITEMS)
    agent = agents.dqn(nn.DotProductQ.of(num_items=ITEMS, dim=8), optax.adam(1e-3))
    _, replay = replay_of(env, agent)
    own = agent.init(jax.random.key(6), env.spec, env.items)
    peer = TorchUpdate(own.params, env.items, replay, BATCH, by_rows=False)
    before = peer.own.table.detach().clone()
    for _ in range(3):
        peer()
    drawn = peer.sample()
    assert drawn["history"].shape == (BATCH, env.spec.history_length)
    assert set(np.unique(drawn["slate"])) <= set(range(ITEMS))
    assert not np.array_equal(peer.own.table.detach(), before)
