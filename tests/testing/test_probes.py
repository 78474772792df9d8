"""Probe environments against values worked out by hand and against their own rollouts."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.envs import environments
from recjax.testing import PROBES, q_values


@pytest.mark.parametrize("g", [0.0, 0.5, 0.9])
def test_values_by_hand(g):
    best = max(1.0, g + g * g)
    expected = {
        "probe_constant": [[1, 1]],
        "probe_delay": [[g, g], [1, 1]],
        "probe_choice": [[0, 1, 0]],
        "probe_context": [[1, 0], [0, 1]],
        "probe_truncation": [[1 / (1 - g)] * 2],
        "probe_chain": [[1, g + g * g], [1 + g, 1 + g], [1, 1]],
    }
    assert set(expected) == set(PROBES)
    for name, table in expected.items():
        observations, q = q_values(name, g)
        np.testing.assert_allclose(q, table, rtol=1e-12, err_msg=name)
        chex.assert_trees_all_equal_shapes_and_dtypes(
            observations, environments.make(name).spec.empty_observation((len(q),))
        )
    assert q_values("probe_chain", g)[1][0].max() == best


@pytest.mark.parametrize("name", PROBES)
def test_rollouts_of_the_best_policy_earn_the_values(name):
    """From every start, by the environment itself; what is cut off is worth its value."""
    g, env = 0.8, environments.make(name)
    reset, step_ = jax.jit(env.reset), jax.jit(env.step)
    observations, q = q_values(name, g)
    seen = [jax.tree.map(lambda leaf, s=s: leaf[s], observations) for s in range(len(q))]

    def row(observation) -> int:
        matches = [s for s, other in enumerate(seen) if jax.tree.all(jax.tree.map(np.array_equal, observation, other))]
        assert len(matches) == 1, "observations tell states apart"
        return matches[0]

    starts = set()
    for seed in range(6):
        for first in range(env.spec.num_items):
            observation, state = reset(jax.random.key(seed), env.params, None)
            start = s = row(observation)
            starts.add(start)
            action, value, discount = first, 0.0, 1.0
            for step in range(1, 20):
                observation, state, response, terminated, truncated, _ = step_(
                    jax.random.key(0), state, jnp.array([action]), env.params, None
                )
                value += discount * float(response["click"][0])
                discount *= g
                if terminated:
                    break
                s = row(observation)
                if truncated:
                    assert step == 5
                    value += discount * q[s].max()
                    break
                action = int(q[s].argmax())
            assert value == pytest.approx(q[start, first], rel=1e-6)
    assert starts == ({0, 1} if name == "probe_context" else {0})


def test_only_the_truncation_probe_is_cut():
    cut = {name: np.isfinite(float(environments.make(name).params.horizon)) for name in PROBES}
    assert [name for name, is_cut in cut.items() if is_cut] == ["probe_truncation"]


def test_bad_input():
    with pytest.raises(ValueError, match="no probe named 'probe_choise'"):
        q_values("probe_choise", 0.9)
    with pytest.raises(ValueError, match=r"discount is 1\.0"):
        q_values("probe_delay", 1.0)
