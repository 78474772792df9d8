"""Ctrl-C that waits for the end of the chunk."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(KeyboardInterrupt):
    """A run was stopped on request, after everything it had done was saved."""


@contextmanager
def deferred_interrupt() -> Iterator[threading.Event]:
    """Turns the first SIGINT or SIGTERM into an event; a second one interrupts at once.

    Outside the main thread, where Python delivers no signals, the event is never set.
    """
    requested = threading.Event()

    def request(number: int, frame: FrameType | None) -> None:
        if requested.is_set():
            raise KeyboardInterrupt
        requested.set()

    if threading.current_thread() is not threading.main_thread():
        yield requested
        return
    previous = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield requested
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
