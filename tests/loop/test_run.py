"""The driver: schedule, records, checkpoints, and interrupts that lose nothing."""

from __future__ import annotations

import importlib
import io
import os
import re
import signal
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from recjax import agents, envs, loop, replay
from recjax.fit import Checkpoints, Progress
from recjax.interrupt import deferred_interrupt, held_back_interrupt
from recjax.loop import Interrupted, LoopConfig, Program, Saving, run_program
from recjax.rewards import click

# The function of the same name hides the module from attribute access.
program_module, run_module = (importlib.import_module(f"recjax.loop.{name}") for name in ("program", "run"))

CONFIG = LoopConfig(steps=12, chunk=2, eval_every=4, users=4, eval_users=4, eval_steps=3, seeds=2)


@pytest.fixture(scope="module")
def program():
    env = envs.synthetic(num_items=30, slate_size=3, history_length=5)
    # Learning by counting: enough for a replay buffer and a state that changes.
    learner = agents.random()._replace(
        learn=lambda key, state, batch: agents.Update(state, {"reward": batch.experience.reward.mean()}),
        memory=replay.uniform(),
    )
    return Program(env, learner, CONFIG, click)


@pytest.fixture
def key():
    return jax.random.key(3)


def same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_schedule_and_records(program, key):
    rows = []
    result = run_program(program, key, on_record=lambda kind, row: rows.append((kind, row["step"])))
    np.testing.assert_array_equal(result.evaluated_at, [0, 4, 8, 12])
    np.testing.assert_array_equal(result.online_at, [2, 4, 6, 8, 10, 12])
    assert rows[:5] == [("evaluation", 0), ("online", 2), ("online", 4), ("evaluation", 4), ("online", 6)]
    assert result.evaluations["ctr"].shape == (4, 2)
    assert result.online["learn/reward"].shape == (6, 2)
    same(result.final(), {name: values[-1] for name, values in result.evaluations.items()})
    assert int(result.state.step) == 12


def test_interrupted_and_resumed_is_never_stopped(program, key, tmp_path):
    whole = run_program(program, key)

    def press_ctrl_c(kind, row):
        if kind == "online" and row["step"] == 6:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted, match="stopped after 6 of 12 steps"):
        run_program(program, key, saving=Saving(tmp_path), on_record=press_ctrl_c)
    seen = []
    resumed = run_program(
        program, key, saving=Saving(tmp_path, resume=True), on_record=lambda kind, row: seen.append(row["step"])
    )
    same(whole.evaluations, resumed.evaluations)
    same(whole.online, resumed.online)
    assert seen == [0, 4, 2, 4, 6, 8, 8, 10, 12, 12]
    for a, b in zip(jax.tree.leaves(whole.state), jax.tree.leaves(resumed.state), strict=True):
        if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(a, b)


def test_killed_between_checkpoints_loses_only_time(program, key, tmp_path, monkeypatch):
    whole = run_program(program, key)
    monkeypatch.setattr(run_module, "SAVE_SECONDS", 0.0)

    def die(kind, row):
        if kind == "online" and row["step"] == 10:
            raise SystemExit

    with pytest.raises(SystemExit):
        run_program(program, key, saving=Saving(tmp_path), on_record=die)
    assert Checkpoints(tmp_path).latest_step() == 8
    resumed = run_program(program, key, saving=Saving(tmp_path, resume=True))
    same(whole.evaluations, resumed.evaluations)
    same(whole.online, resumed.online)


def test_a_new_run_replaces_old_checkpoints(program, key, tmp_path):
    run_program(program, key, saving=Saving(tmp_path))
    assert Checkpoints(tmp_path).latest_step() == 12
    again = run_program(program, jax.random.key(4), saving=Saving(tmp_path))
    restored = run_program(program, jax.random.key(4), saving=Saving(tmp_path, resume=True))
    same(again.evaluations, restored.evaluations)


def test_checkpoint_of_another_shape_is_refused(program, key, tmp_path):
    run_program(program, key, saving=Saving(tmp_path))
    env = envs.synthetic(num_items=40, slate_size=3, history_length=5)
    with pytest.raises(ValueError, match=r"holds a run with environment .*, but now environment is .* clear"):
        loop.run(env, program.agent, CONFIG, key=key, saving=Saving(tmp_path, resume=True))


def test_checkpoint_with_replay_in_other_dtypes_is_refused(program, key, tmp_path, monkeypatch):
    with monkeypatch.context() as before:
        before.setattr(program_module, "stored", lambda buffer, storage: buffer)
        wide = Program(program.env, program.agent, CONFIG, click)
    run_program(wide, key, saving=Saving(tmp_path))
    with pytest.raises(ValueError, match=r"does not fit: leaf \.replay\.\S+ is \w+32\[.* there but \w+\[.* here"):
        run_program(program, key, saving=Saving(tmp_path, resume=True))


@pytest.mark.parametrize("when", ["seen", "after leaving"])
def test_what_a_user_sees_against_the_spec_stops_a_run(program, key, when):
    env = program.env

    def step(*arguments):
        seen, state, response, left, cut, info = env.step(*arguments)
        left = jnp.bool_(when == "after leaving")
        return seen.replace(history=seen.history.at[-1].set(300)), state, response, left, cut & ~left, info

    broken = env._replace(step=step)
    if when == "after leaving":  # What comes next has no meaning there.
        loop.run(broken, program.agent, CONFIG, key=key)
        return
    message = (
        r"\d+ values of (next_)?observation.history are not what Environment.spec .*loop, steps 1 to 2, seeds 0, 1"
    )
    with pytest.raises(ValueError, match=message):
        loop.run(broken, program.agent, CONFIG, key=key)


def test_seeds_on_two_devices_equal_seeds_on_one(program, key):
    one = run_program(program, key)
    two = run_program(program, key, devices=2)
    assert len(two.state.users.observation.history.sharding.device_set) == 2
    same(one.evaluations, two.evaluations)


def test_second_interrupt_stops_at_once():
    before = signal.getsignal(signal.SIGINT)
    with deferred_interrupt() as requested:
        assert not requested.is_set()
        os.kill(os.getpid(), signal.SIGTERM)
        assert requested.is_set()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_was_held_back_comes_after_the_block(number):
    heard = []
    before = signal.signal(number, lambda got, _: heard.append(got))
    try:
        with held_back_interrupt():
            signal.raise_signal(number)
            assert heard == []
    finally:
        signal.signal(number, before)
    assert heard == [number]


def test_no_handlers_outside_the_main_thread():
    outcome = []

    def body():
        with deferred_interrupt() as requested:
            outcome.append(requested.is_set())

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert outcome == [False]


def test_compiling_is_a_stage_once_for_all_that_share_a_program(key, caplog):
    env = envs.synthetic(num_items=30, slate_size=3, history_length=5)
    shared = Program(env, agents.random(), CONFIG, click)
    shown = io.StringIO()
    with jax.log_compiles(), caplog.at_level("WARNING"):
        first = run_program(shared, key, progress=Progress(console=Console(file=shown)), name="first")
        compiled = len(caplog.records)
        second = run_program(shared, key, progress=Progress(console=Console(file=shown)), name="second")
    assert compiled
    assert not [record for record in caplog.records[compiled:] if "Finished XLA compilation" in record.getMessage()]
    assert re.findall(r"(\w+) +0%: compiling (…|took)", shown.getvalue()) == [("first", "…"), ("first", "took")]
    assert second.compile_seconds < first.compile_seconds
    same(first.evaluations, second.evaluations)
