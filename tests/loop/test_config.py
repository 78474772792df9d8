"""Counts that make no schedule are refused before anything is compiled."""

import pytest

from recjax.loop import LoopConfig, OfflineConfig


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        (LoopConfig, {"users": 0}, "LoopConfig.users is 0; it must be an integer >= 1"),
        (LoopConfig, {"learn_start": -1}, "LoopConfig.learn_start is -1; it must be an integer >= 0"),
        (LoopConfig, {"steps": 110}, "steps is 110, which is not a multiple of chunk=50; use steps=100, or a chunk"),
        (LoopConfig, {"eval_every": 20}, "eval_every is 20, .*; use eval_every=50"),
        (LoopConfig, {"users": 9, "replay_capacity": 8}, "replay_capacity is 8, less than one step of users=9"),
        (OfflineConfig, {"batch_size": 2.5}, "OfflineConfig.batch_size is 2.5; it must be an integer >= 1"),
        (OfflineConfig, {"updates": 0}, "OfflineConfig.updates is 0; it must be an integer >= 1"),
        (OfflineConfig, {"updates": 250}, "updates is 250, which is not a multiple of chunk=100; use updates=200"),
    ],
)
def test_counts_that_make_no_schedule_are_refused(config, options, message):
    with pytest.raises(ValueError, match=message):
        config(**options)


def test_a_loop_may_have_no_steps_and_learn_at_once():
    assert LoopConfig(steps=0, learn_start=0).steps == 0
