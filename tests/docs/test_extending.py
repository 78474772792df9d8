"""The files of the page on parts of one's own keep their contracts and run together."""

from __future__ import annotations

import sys

import jax
import numpy as np
import pytest

from recjax import agents, envs, nn, rewards

REGISTRIES = (agents.agents, envs.environments, rewards.rewards, nn.history_encoders)


@pytest.fixture
def page(blocks, write_files, monkeypatch):
    """The blocks that are no files; what the files register is forgotten afterwards."""
    for registry in REGISTRIES:
        monkeypatch.setattr(registry, "_factories", dict(registry._factories))
    others = write_files(blocks("extending.md", "python"))
    yield others
    for name in ("shop", "counting", "liked", "first_slot", "recency"):
        sys.modules.pop(name, None)


def test_each_part_passes_its_suite(page, run_small):
    checks = [code for code in page if "testing.check_" in code]
    assert len(checks) == 3
    for code in checks:
        run_small(code, {})


def test_parts_run_together(page, run_small, capsys):
    sizes = {"steps=1500": "steps=60", "eval_every=1500": "eval_every=60, eval_users=16", "seeds=5": "seeds=2"}
    results = run_small(page[-1], sizes)["results"]
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["random", "counting", "dqn"]
    rate = {name: result.online["click_rate"][-1].mean() for name, result in results.items()}
    assert rate["counting"] > rate["random"] > 0


def test_encoder_is_the_mean_that_it_says_and_does_not_read_padding(page):
    import recency

    rng = np.random.default_rng(0)
    vectors, mask = rng.normal(size=(2, 5, 3)), np.array([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]], bool)
    encoder = recency.RecencyEncoder()
    params = encoder.init(jax.random.key(0), vectors, mask)
    decay = 1 / (1 + np.exp(-params["params"]["decay"]))
    found = encoder.apply(params, np.where(mask[..., None], vectors, np.nan), mask, every_position=True)
    for row, start in ((0, 2), (1, 0)):
        for end in range(start, 5):
            weight = decay ** (end - np.arange(start, end + 1.0))
            expected = weight @ vectors[row, start : end + 1] / weight.sum()
            np.testing.assert_allclose(found[row, end], expected, rtol=1e-5)
    np.testing.assert_allclose(encoder.apply(params, vectors, mask), found[:, -1], rtol=1e-5)
