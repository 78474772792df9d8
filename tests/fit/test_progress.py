"""Progress: right numbers, few writes, silence when asked."""

import io
import re

import jax.numpy as jnp
import pytest
from rich.console import Console

from recjax.fit import Progress


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Number:
    """Counts how often it is converted, which for a JAX scalar waits for the device."""

    conversions = 0

    def __float__(self):
        Number.conversions += 1
        return 0.5


def lines_of(steps, seconds, **options):
    clock, stream = Clock(), io.StringIO()
    with Progress(console=Console(file=stream, width=200), clock=clock, **options) as progress:
        task = progress.task("loop: dqn", total=steps * 10, unit="user-steps")
        for _ in range(steps):
            clock.now += seconds / steps
            task.update(10, reward=Number())
        task.finish()
    return stream.getvalue().splitlines()


def test_plain_lines_come_every_ten_seconds_whatever_the_number_of_updates():
    Number.conversions = 0
    lines = lines_of(steps=10_000, seconds=100.0)
    assert len(lines) in (10, 11)
    assert Number.conversions == len(lines)


def test_a_line_says_share_rate_time_left_and_numbers():
    lines = lines_of(steps=400, seconds=40.0)
    assert lines[0].startswith("loop: dqn  25%: 100 user-steps/s, 0:30 left, reward 0.5")
    assert lines[-1].startswith("loop: dqn 100% in 0:40: 100 user-steps/s, reward 0.5")


def test_rate_ignores_what_was_done_before_a_resume_and_a_slow_start():
    clock = Clock()
    progress = Progress(console=Console(file=io.StringIO()), clock=clock)
    task = progress.task("loop", total=10_000)
    task.update(5_000)
    assert task.rate() is None
    clock.now += 100  # compilation
    task.update(10)
    for _ in range(30):
        clock.now += 1
        task.update(10)
    assert task.rate() == pytest.approx(10)


def test_a_stage_is_shown_with_its_time_and_no_rate_knows_of_it():
    clock, stream = Clock(), io.StringIO()
    progress = Progress(console=Console(file=stream, width=200), clock=clock)
    task = progress.task("loop", total=100)
    with task.stage("compiling"):
        assert stream.getvalue() == "loop   0%: compiling …\n"
        clock.now += 61
    for _ in range(10):
        clock.now += 1
        task.update(10)
    task.finish()
    lines = stream.getvalue().splitlines()
    assert lines[1] == "loop   0%: compiling took 1:01"
    assert lines[2].startswith("loop 100%: 10 steps/s")


def test_what_has_nothing_to_say_ends_without_a_colon():
    clock, stream = Clock(), io.StringIO()
    task = Progress(console=Console(file=stream), clock=clock).task("simulator", total=1)
    clock.now += 4
    task.update(1)
    task.finish()
    assert stream.getvalue() == "simulator 100% in 0:04\n"


def test_disabled_shows_and_converts_nothing():
    Number.conversions = 0
    assert lines_of(steps=100, seconds=1000.0, enabled=False) == []
    assert Number.conversions == 0


def test_a_terminal_gets_a_bar_and_few_redraws():
    Number.conversions = 0
    clock, stream = Clock(), io.StringIO()
    console = Console(file=stream, force_terminal=True, width=160)
    with Progress(console=console, clock=clock) as progress:
        task = progress.task("loop: dqn", total=1000, unit="user-steps")
        for _ in range(1000):
            clock.now += 0.01
            task.update(1, reward=Number(), loss=jnp.float32(0.25))
        task.finish()
    assert 10 <= Number.conversions <= 22
    assert "loop: dqn" in stream.getvalue()
    assert "100 user-steps/s, reward 0.5, loss 0.25" in stream.getvalue()


def bars_of(width, name="similarity_prior"):
    """The lines that a terminal shows, without its codes."""
    clock, stream = Clock(), io.StringIO()
    console = Console(file=stream, force_terminal=True, width=width, color_system=None)
    with Progress(console=console, clock=clock) as progress:
        other = progress.task("dqn", total=100, unit="user-steps")
        for _ in range(4):
            clock.now += 1.0
            other.update(10, reward=0.5, loss=0.25, **{"updates/s": 1234.0})
        task = progress.task(name, total=1_000_000, unit="user-steps")
        for _ in range(40):
            clock.now += 1.0
            task.update(20_000, reward=0.5, **{"updates/s": 1234.0})
        progress._bars.refresh()
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "\n", stream.getvalue()).replace("\r", "\n").split("\n")
    return [line.rstrip() for line in lines if "%" in line]


@pytest.mark.parametrize(("width", "bar"), [(60, 16), (80, 16), (100, 24), (160, 24)])
def test_bars_keep_their_width_and_lose_numbers(width, bar):
    other, line = bars_of(width)[-2:]
    assert len(line) <= width
    assert len(other) <= width
    assert other[len("similarity_prior ") + bar :].startswith("  40 %")
    assert line[len("similarity_prior ") + bar :].startswith("  80 %")
    assert "0:10 left" in line
    assert ("20,000 user-steps/s" in line) == (width >= 80)
    assert ("updates/s 1,234" in line) == (width >= 160)


def test_names_are_shown_as_they_are():
    assert "[b]a\\x1b[1m" in bars_of(80, name="[b]a\x1b[1m")[-1]


def test_an_error_closes_the_bar_and_passes():
    stream = io.StringIO()
    progress = Progress(console=Console(file=stream, force_terminal=True))

    def run():
        with progress:
            progress.task("loop", total=1).update(1)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        run()
    assert stream.getvalue().endswith("\x1b[?25h")  # the cursor is shown again


def test_long_times_large_and_no_totals():
    clock, stream = Clock(), io.StringIO()
    progress = Progress(console=Console(file=stream, width=200), clock=clock)
    task = progress.task("big", total=10**9)
    task.update(0)
    clock.now = 10
    task.update(10**6, loss=float("nan"))
    assert stream.getvalue().strip() == "big   0%: 100,000 steps/s, 2:46:30 left, loss nan"
    progress.task("nothing", total=0).finish()
    assert stream.getvalue().splitlines()[-1].startswith("nothing 100% in 0:00")
