"""SIGTERM and SIGINT before a process works, and after. Rule: being told to end is no failure, however early or late.

Python dies of a signal that nobody listens for, and a process manager takes that for a crash. The early one comes when
a deployment is called off; the late one from a terminal and a process manager that both say it.
"""

import os
import signal
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop  # takes a while to load, and we come first

_SHUTDOWN_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


def exit_on_signals() -> None:
    """End with 0 on a signal, from here until whoever serves says what else to do; no work is held so early."""
    for number in _SHUTDOWN_SIGNALS:
        signal.signal(number, lambda *_: os._exit(0))


def ignore_signals(loop: "AbstractEventLoop | None" = None) -> None:
    """Pass signals over, when all is closed: Python lets them kill as it ends, and `loop` as it closes itself."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SHUTDOWN_SIGNALS)  # between one and the other they would kill, too
    for number in _SHUTDOWN_SIGNALS:
        if loop is not None:
            loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SHUTDOWN_SIGNALS)
