"""workers.protected_process: which calls would harm a process."""

import os
import signal
from typing import Any

import pytest

from workers.protected_process import harmful_call

PID = os.getpid()
OTHER = 1


@pytest.mark.parametrize(
    ("event", "args", "expected"),
    [
        ("os.kill", (PID, signal.SIGKILL), "os.kill"),
        ("os.kill", (PID, 0), ""),
        ("os.kill", (OTHER, signal.SIGKILL), ""),
        ("os.kill", (0, signal.SIGTERM), "os.kill"),
        ("os.kill", (-1, signal.SIGTERM), "os.kill"),
        ("os.kill", (-os.getpgrp(), signal.SIGTERM), "os.kill"),
        ("os.killpg", (os.getpgrp(), signal.SIGSTOP), "os.killpg"),
        ("os.killpg", (2, signal.SIGSTOP), ""),
        ("signal.pthread_kill", (1, signal.SIGUSR1), "signal.pthread_kill"),
        ("resource.prlimit", (0, 7, None), ""),
        ("resource.prlimit", (0, 7, (3, 3)), "resource.prlimit"),
        ("ctypes.dlsym", (None, "getpid"), ""),
        ("ctypes.dlsym", (None, "abort"), "ctypes.dlsym"),
        ("os.forkpty", (), "os.forkpty"),
    ],
)
def test_call_is_harmful_if_it_reaches_the_process(event: str, args: tuple[Any, ...], expected: str) -> None:
    assert harmful_call(event, args, PID) == expected
