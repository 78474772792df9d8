"""Progress of long runs: a bar on a terminal, a line every few seconds anywhere else."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress
from rich.table import Column
from rich.text import Text

from recjax.display import printable

REDRAW_SECONDS = 0.5
RATE_WINDOW = 20
WIDE, BAR, NARROW_BAR = 100, 24, 16
"""Characters of a terminal that has room for the longer bar, and of the bars."""
NAME = 20
"""Characters of a name on a terminal; longer ones are cut."""
SHARE_AND_TIME = len("100 %") + len("0:00:00") + 4
"""Characters of the other columns, with the gaps between them."""


class Progress:
    """Shows what runs, how fast, how long it will take, and any numbers.

    On a terminal this is a bar per task; elsewhere (a file, a notebook, CI) a plain line
    every ``every`` seconds and one at the end. Updates between two redraws cost a clock
    reading and an addition: numbers are converted only when they are shown, so passing
    JAX scalars does not wait for the device.

    >>> import io
    >>> with Progress(console=Console(file=io.StringIO())) as progress:
    ...     task = progress.task("fit", total=300, unit="examples")
    ...     for _ in range(3):
    ...         task.update(100, loss=0.5)
    ...     task.finish()
    """

    def __init__(
        self,
        enabled: bool = True,
        *,
        console: Console | None = None,
        every: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepares a display; entering the context shows it.

        Args:
          enabled: False shows nothing at no cost.
          console: where to show; the standard error stream by default.
          every: seconds between plain lines.
          clock: returns seconds.
        """
        self._enabled = enabled
        self._console = console or Console(stderr=True)
        self._clock = clock
        self._every = REDRAW_SECONDS if self._console.is_terminal else every
        self._bars: RichProgress | None = None
        if enabled and self._console.is_terminal:
            self._bars = RichProgress(
                TextColumn(
                    "{task.description}",
                    markup=False,
                    table_column=Column(no_wrap=True, overflow="ellipsis", max_width=NAME),
                ),
                BarColumn(bar_width=self._bar_width),
                TextColumn("{task.percentage:>3.0f} %"),
                TimeElapsedColumn(),
                _Numbers(self._room),
                console=self._console,
                refresh_per_second=1 / REDRAW_SECONDS,
            )

    @property
    def _bar_width(self) -> int:
        return BAR if self._console.width >= WIDE else NARROW_BAR

    def _room(self) -> int:
        """Characters of a terminal that are left for numbers."""
        names = [len(task.description) for task in self._bars.tasks] if self._bars is not None else []
        return self._console.width - self._bar_width - SHARE_AND_TIME - min(max(names, default=0), NAME)

    def __enter__(self) -> Progress:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def task(self, name: str, total: float, unit: str = "steps") -> Task:
        """Begins to show a task.

        Args:
          name: what runs.
          total: how many units it takes.
          unit: what is counted, in the plural.
        """
        return Task(self, name, total, unit)


class Task:
    """One thing that runs; made by :meth:`Progress.task`."""

    def __init__(self, progress: Progress, name: str, total: float, unit: str) -> None:
        self.name = printable(name)
        self.total = total
        self.unit = unit
        self.completed = 0.0
        self._progress = progress
        self._numbers: dict[str, Any] = {}
        self._begun = self._shown = progress._clock()
        self._trail: deque[tuple[float, float]] = deque(maxlen=RATE_WINDOW)
        if progress._bars is not None:
            self._bar = progress._bars.add_task(self.name, total=total, numbers=("", "", ()))

    def update(self, advance: float, **numbers: Any) -> None:
        """Counts progress; shows it if the last redraw is long enough ago.

        The first update after a resume may count what was done before: rates are taken
        between updates.

        Args:
          advance: units done since the last update.
          **numbers: values to show, floats or scalars of NumPy or JAX.
        """
        if not self._progress._enabled:
            return
        self.completed += advance
        self._numbers |= numbers
        now = self._progress._clock()
        if not self._trail or now - self._trail[-1][0] >= REDRAW_SECONDS:
            self._trail.append((now, self.completed))
        if now - self._shown >= self._progress._every:
            self._show(now)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Shows at once what else goes on before units are counted, such as compiling; rates do not know of it."""
        if not self._progress._enabled:
            yield
            return
        begun = self._progress._clock()
        self._print(f"{name} …", refresh=True)
        yield
        now = self._progress._clock()
        self._print(f"{name} took {_duration(now - begun)}", refresh=True)
        self._trail.clear()
        self._shown = now

    def finish(self) -> None:
        """Shows the last numbers and the time that the task took."""
        if self._progress._enabled:
            self._show(self._progress._clock(), finished=True)

    def rate(self) -> float | None:
        """Units per second over the last redraws, or None before there are two."""
        if len(self._trail) < 2:
            return None
        (begun, before), (now, after) = self._trail[0], self._trail[-1]
        return (after - before) / (now - begun)

    def _show(self, now: float, finished: bool = False) -> None:
        self._shown = now
        rate = self.rate()
        speed = "" if rate is None else f"{_number(rate)} {self.unit}/s"
        left = f"{_duration((self.total - self.completed) / rate)} left" if rate and not finished else ""
        numbers = [f"{name} {_number(float(value))}" for name, value in self._numbers.items()]
        taken = f" in {_duration(now - self._begun)}" if finished else ""
        self._print(speed, left, numbers, taken=taken, refresh=finished)

    def _print(
        self, speed: str, left: str = "", numbers: Sequence[str] = (), *, taken: str = "", refresh: bool = False
    ) -> None:
        if self._progress._bars is not None:
            shown = speed, left, numbers
            self._progress._bars.update(self._bar, completed=self.completed, numbers=shown, refresh=refresh)
        else:
            detail = ", ".join(filter(None, [speed, left, *numbers]))
            share = f"{self.completed / self.total:4.0%}" if self.total else "100%"
            self._progress._console.print(
                f"{self.name} {share}{taken}{': ' if detail else ''}{detail}",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )


class _Numbers(ProgressColumn):
    """The numbers of a task, as many as there is room for when they are drawn."""

    def __init__(self, room: Callable[[], int]) -> None:
        super().__init__(Column(no_wrap=True))
        self._room = room

    def render(self, task: Any) -> Text:
        """What rich calls to draw the column."""
        speed, left, numbers = task.fields["numbers"]
        return Text(_fitting(speed, left, numbers, self._room()))


def _fitting(speed: str, left: str, numbers: Sequence[str], room: int) -> str:
    """As much as there is room for; the last numbers go first, then the speed, and the time left stays longest.

    >>> _fitting("9 steps/s", "0:30 left", ["loss 0.5"], 30), _fitting("9 steps/s", "0:30 left", ["loss 0.5"], 12)
    ('9 steps/s, 0:30 left, loss 0.5', '0:30 left')
    """
    for count in range(len(numbers), -1, -1):
        text = ", ".join(filter(None, [speed, left, *numbers[:count]]))
        if len(text) <= room:
            return text
    return left if len(left) <= room else ""


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(max(seconds, 0.0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
