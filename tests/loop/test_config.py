"""Counts that make no schedule are refused before anything is compiled."""

import dataclasses

import pytest

from recjax.loop import LoopConfig, OfflineConfig


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        (LoopConfig, {"users": 0}, "LoopConfig.users is 0; it must be an integer >= 1"),
        (LoopConfig, {"learn_start": -1}, "LoopConfig.learn_start is -1; it must be an integer >= 0"),
        (
            LoopConfig,
            {"steps": 110, "chunk": 50},
            "steps is 110, .* of chunk=50; use steps=100, or a chunk",
        ),
        (LoopConfig, {"eval_every": 20, "chunk": 50}, "eval_every is 20, .*; use eval_every=50"),
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


@pytest.mark.parametrize("steps", [1, 3, 8, 30, 53, 110, 397, 400, 2000])
@pytest.mark.parametrize("given", [{}, {"eval_every": 20}, {"chunk": 1}])
def test_what_was_not_given_suits_the_steps(steps, given):
    config = LoopConfig(steps=steps, **given)
    assert steps % config.chunk == 0
    assert config.eval_every % config.chunk == 0
    assert given.items() <= dataclasses.asdict(config).items()


def test_a_schedule_is_the_usual_one_where_that_fits():
    assert (LoopConfig().chunk, LoopConfig().eval_every) == (50, 100)
    short = LoopConfig(steps=30)
    assert 4 <= short.steps / short.eval_every <= 6
