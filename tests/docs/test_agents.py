"""What the pages on bandits and on actions that are vectors show runs."""

from __future__ import annotations

import jax
import pytest


@pytest.fixture
def page(blocks):
    """Readers run the pages as JAX comes."""
    with jax.numpy_rank_promotion("allow"):
        yield lambda name: blocks(name, "python")


def test_bandits(page, run_small):
    learning, by_kind = page("bandits.md")
    names = run_small(learning, {"steps=200": "steps=4, chunk=2", "seeds=5": "seeds=1"})
    assert names["found"].online["regret_per_slot"].shape == (2, 1)
    assert run_small(by_kind, {})["lin_ucb"].log_prob is not None


def test_actions_that_are_vectors(page, run_small):
    learning, items = page("continuous_actions.md")
    small = {"steps=400, users=16, seeds=2": "steps=2, users=4, seeds=1, batch_size=4, eval_users=4, learn_start=1"}
    assert run_small(learning, small)["found"].evaluations["session_reward"].shape[1] == 1
    assert run_small(items, {})["agent"].log_prob is None
