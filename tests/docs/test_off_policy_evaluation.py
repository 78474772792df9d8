"""What the page on off-policy evaluation shows runs."""

from __future__ import annotations

import jax
import numpy as np
import pytest

LOG = """
import numpy as np
rng = np.random.default_rng(0)
log = {"click": rng.integers(0, 2, 200), "product": rng.integers(0, 4, 200), "user": rng.integers(0, 50, 200)}
log |= {"propensity": np.full(200, 0.25), "pi_new": np.where(log["product"] == 0, 0.7, 0.1)}
"""
AGENT = """
import jax
from recjax import agents, envs, ope
env, agent = envs.synthetic(num_items=8, slate_size=1, history_length=3), agents.random(exclude_history=False)
state = agent.init(jax.random.key(0), env.spec, env.items)
observation = env.spec.empty_observation((40,))
slate, log_prob, _ = agent.act(jax.random.key(1), state, observation)
reward, propensity = slate[:, 0] == 0, jax.numpy.exp(log_prob)
"""


@pytest.fixture
def page(blocks):
    """Readers run the page as JAX comes."""
    with jax.numpy_rank_promotion("allow"):
        yield blocks("off_policy_evaluation.md", "python")


def test_a_log_becomes_a_table(page, run_small):
    table = run_small(LOG + page[0], {})["table"]
    assert table["policy"].unique(maintain_order=True).to_list() == ["logged", "new", "uniform"]
    assert table["problem"].null_count() == len(table)


def test_an_agent_is_evaluated(page, run_small, capsys):
    names = run_small(AGENT + page[1], {})
    np.testing.assert_allclose(names["feedback"].weight, 1.0)
    assert capsys.readouterr().out.strip().endswith("(effective sample 40 of 40)")
