"""SIGTERM and SIGINT during start-up and final shutdown: a process that is asked to stop exits with status 0.

Without a handler, a signal kills Python with a non-zero status, which process managers report as a crash. A signal
arrives early when a deployment is cancelled, and late when a terminal and a process manager both send it.
"""

import os
import signal
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop  # slow to import, and this module is imported first

_EXIT: Final = os._exit  # a worker replaces it while handlers run
_SHUTDOWN_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


def exit_on_signals() -> None:
    """Exit with status 0 on a signal, until the server installs its own handlers. Nothing is in progress so early."""
    for number in _SHUTDOWN_SIGNALS:
        signal.signal(number, lambda *_: _EXIT(0))


def ignore_signals(loop: "AbstractEventLoop | None" = None) -> None:
    """Ignore signals during final shutdown.

    Python restores the default handlers as it exits, and `loop` does as it closes. A late signal would then kill the
    process.
    """
    # Blocked, because a signal between the two calls of the loop would kill the process.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SHUTDOWN_SIGNALS)
    for number in _SHUTDOWN_SIGNALS:
        if loop is not None:
            loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SHUTDOWN_SIGNALS)
