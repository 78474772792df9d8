"""Oracles of a study, and what is said of looking ahead, by hand."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from recjax import envs
from recjax.envs.base import Oracle
from recjax.loop import Result
from recjax.rewards import parse
from recjax.study.yardsticks import compare_with, long_term_value, yardsticks


def result(*earned):
    """A loop whose last evaluation is known."""
    values = np.array([np.zeros(len(earned)), earned])
    return Result(
        evaluated_at=[0, 4], evaluations={"session_reward": values}, online_at=[], online={}, state=None, seconds=1.0,
        compile_seconds=0.0,
    )  # fmt: skip


def runs(slate_q, myopic, oracle_myopic=None, oracle_look_ahead=None):
    found = {"random": [1.0] * len(slate_q), "slate_q": slate_q, "myopic": myopic}
    if oracle_myopic is not None:
        found |= {"oracle_myopic": oracle_myopic, "oracle_look_ahead": oracle_look_ahead}
    return {name: result(*earned) for name, earned in found.items()}


def test_regret_and_share_are_of_the_best_oracle():
    reached = compare_with(runs([6.0, 7.0], [5.0, 5.0], [9.0, 9.0], [11.0, 11.0]))
    assert reached["reference"] == "oracle_look_ahead"
    assert reached["policies"]["slate_q"]["regret"].tolist() == [5.0, 4.0]
    assert reached["policies"]["slate_q"]["share"].tolist() == [0.5, 0.6]
    assert reached["policies"]["oracle_look_ahead"]["share"].tolist() == [1.0, 1.0]
    assert compare_with(runs([6.0], [5.0])) is None


@pytest.mark.parametrize(
    ("gain", "headroom", "said"),
    [
        ([1.0, 1.1, 0.9, 1.0], 2.0, "Looking ahead paid: the interval lies above zero. It reached 50% of what"),
        ([-1.0, -1.1, -0.9, -1.0], 2.0, "Looking ahead cost reward"),
        ([2.0, -2.0, 1.0, -1.0], 50.0, "cannot be told: the interval holds zero"),
        ([2.0, -2.0, 1.0, -1.0], 0.5, "So it has no verdict on looking ahead. It would take about"),
        ([1.0, 1.1, 0.9, 1.0], 0.0, "So it has no verdict on looking ahead. No number of seeds would do"),
    ],
)
def test_a_verdict_needs_more_headroom_than_noise(gain, headroom, said):
    myopic = np.array([5.0, 5.5, 6.0, 5.0])
    value = long_term_value(runs(myopic + gain, myopic, np.full(4, 10.0), np.full(4, 10.0 + headroom)))
    assert said in value["text"]
    assert value["mean"] == pytest.approx(np.mean(gain))
    assert value["headroom"] == pytest.approx({"mean": headroom, "low": headroom, "high": headroom, "of": 10.0})


def test_without_oracles_it_is_said_what_the_interval_says():
    assert "Looking ahead paid" in long_term_value(runs([2.0, 2.1], [1.0, 1.1]))["text"]
    assert "One seed has no interval" in long_term_value(runs([2.0], [1.0]))["text"]
    assert long_term_value({"random": result(1.0, 2.0)}) is None


def test_the_best_setting_is_found_and_programs_are_shared():
    """Slates of one item each; the best is the item that the environment's users like most."""
    env = envs.synthetic(num_items=6, slate_size=1, history_length=3, key=jax.random.key(1))

    def always(key, users, item):
        return jax.numpy.full((users.observation.history.shape[0], 1), item, jax.numpy.int32)

    everything = jax.numpy.arange(6)
    only = Oracle(always, "Always the first", everything[:1])
    env = env._replace(oracles={"first": only, "best": Oracle(always, "Always the same", everything)})
    found = yardsticks(env, parse("click"), 5, jax.random.key(0))
    assert found["oracle_first"].policy.agent is found["oracle_best"].policy.agent
    assert int(found["oracle_first"].policy.hparams) == 0
    assert "Chosen by 256 users" in found["oracle_best"].description
    liked = np.asarray(env.params.factors.bias)
    assert int(found["oracle_best"].policy.hparams) in np.argsort(-liked)[:2]
