"""Compiling in the background: the programs of later policies, while earlier ones run."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

WORKERS = 2
"""Programs that are compiled at once; compiling one keeps about one core busy."""


@contextlib.contextmanager
def done_ahead(jobs: Sequence[Callable[[], Any]]) -> Iterator[None]:
    """Begins jobs in their order in other threads; what has not begun at the end is left out.

    A job that fails is left to whoever needs what it does: it fails there again, in its turn.

    >>> done = []
    >>> with done_ahead([lambda: done.append(1), lambda: 1 / 0]):
    ...     pass
    >>> set(done) <= {1}
    True
    """
    waiting, stop = iter(jobs), threading.Event()
    lock = threading.Lock()

    def work() -> None:
        while not stop.is_set():
            with lock:
                job = next(waiting, None)
            if job is None:
                return
            with contextlib.suppress(Exception):
                job()

    threads = [threading.Thread(target=work, name=f"ahead {number}") for number in range(min(WORKERS, len(jobs)))]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
