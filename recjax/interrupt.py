"""Ctrl-C that is answered at once, and waits for the end of the chunk."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

GRACE_SECONDS = 1.0
"""How long a second Ctrl-C leaves Python to stop in order; it cannot while a compiled program runs."""


class Interrupted(KeyboardInterrupt):
    """A run was stopped on request, after everything it had done was saved."""


class Requested(threading.Event):
    """Whether a signal has come, and which."""

    number: signal.Signals = signal.SIGINT


@contextmanager
def deferred_interrupt() -> Iterator[Requested]:
    """Turns the first SIGINT or SIGTERM into an event; a second one interrupts at once.

    Outside the main thread, where Python delivers no signals, the event is never set.
    """
    requested = Requested()

    def request(number: int, frame: FrameType | None) -> None:
        if requested.is_set():
            raise KeyboardInterrupt
        requested.number = signal.Signals(number)
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


@contextmanager
def held_back_interrupt() -> Iterator[None]:
    """Holds the first SIGINT or SIGTERM back until the block has ended, then lets it have its usual effect.

    For what threads of a library do, such as writing a file: interrupted, they would go on and fail by themselves.
    """
    with deferred_interrupt() as requested:
        yield
    if requested.is_set():
        signal.raise_signal(requested.number)


@contextmanager
def answered_interrupts() -> Iterator[None]:
    """Says on standard error that Ctrl-C was heard, while a program owns the process; a second one ends it.

    Python runs the handler of a signal once a compiled program returns, which may take a minute. This listens in a
    thread of its own. What the first signal does is not changed. A second one ends the process with status 130
    where Python does not stop by itself; checkpoints are complete or absent at any moment.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_answer, args=(ours,), daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        theirs.close()


def _answer(signals: socket.socket) -> None:
    heard = 0
    with signals:
        while number := signals.recv(1):
            if number[0] not in (signal.SIGINT, signal.SIGTERM):
                continue
            heard += 1
            if heard == 1:
                deferred = signal.getsignal(number[0]) not in (signal.default_int_handler, signal.SIG_DFL)
                _say(f"Stopping{' after this chunk' if deferred else ''}; press Ctrl-C again to stop now.")
            elif heard == 2:
                time.sleep(GRACE_SECONDS)
                _say("Stopped.")
                os._exit(128 + signal.SIGINT)


def _say(text: str) -> None:
    # A progress bar has hidden the cursor.
    shown = "\x1b[?25h" if sys.stderr.isatty() else ""
    print(f"{shown}\n{text}" if shown else text, file=sys.stderr, flush=True)
