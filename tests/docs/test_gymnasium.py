"""What the page on Gymnasium shows runs."""

from __future__ import annotations

import jax
import pytest

pytest.importorskip("gymnasium")


@pytest.fixture
def page(blocks):
    """Readers run the page as JAX comes."""
    with jax.numpy_rank_promotion("allow"):
        yield blocks("gymnasium.md", "python")


def test_our_users(page, run_small):
    names = run_small("\n".join(page[:2]), {"256": "4", "range(100)": "range(2)"})
    assert names["seen"]["history"].shape == (4, 5)
    assert set(names["infos"]) >= {"click", "satisfaction"}


def test_our_agent(page, run_small, capsys):
    small = {"8_000": "120", "episodes=4": "episodes=1"}
    returns = run_small(page[3], small)["returns"]
    assert returns.shape == (16, 1)
    assert capsys.readouterr().out.split()[0].isdecimal()


def test_stable_baselines(page, run_small):
    pytest.importorskip("stable_baselines3")
    learner = run_small(
        "\n".join((page[0], page[2])), {"256": "4", "range(100)": "range(2)", "50_000": "10", "n_envs=8": "n_envs=1"}
    )["learner"]
    assert learner.num_timesteps >= 10
