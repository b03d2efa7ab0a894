"""A child process that can be started, signalled and stopped."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from spokes.console.local.processes import die_with_parent

ROOT: Final = Path(__file__).parent.parent
_TAIL_BYTES: Final = 500  # bytes
_STOP_TIMEOUT_S: Final = 28.0  # Heroku kills a dyno after 30 s


class ChildProcess:
    """One process of the stack; `should_run` is false after `stop`."""

    def __init__(
        self, name: str, command: Sequence[str], env: Mapping[str, str], folder: Path, *, user: str | None = None
    ) -> None:
        self.name = name
        self.command = command
        self.env = env
        self.cwd = ROOT
        self.should_run = False
        self.outlived_stop = False  # the last stop had to kill it
        self._log = folder / f"{name}.log"
        self._user = user
        self._started_s = 0.0
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """The process id; 0 if it is not running."""
        return self._process.pid if self._process is not None and self.exit_code is None else 0

    @property
    def child_pids(self) -> list[int]:
        """The process ids of its own children, such as the console's of web."""
        files = Path(f"/proc/{self.pid}/task").glob("*/children") if self.pid else ()
        return [int(pid) for file in files for pid in file.read_text().split()]

    @property
    def exit_code(self) -> int | None:
        """The exit code after the process has ended; negative for a signal."""
        return None if self._process is None else self._process.returncode

    async def start(self) -> None:
        """Start the process, or start it again; its output is appended to its log."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self.command,
                cwd=self.cwd,
                env=self.env,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=self._user,
                start_new_session=True,
                preexec_fn=_prepare_child,
            )
        self._started_s = time.monotonic()
        self.should_run = True

    @property
    def age_s(self) -> float:
        """Seconds since the last start."""
        return time.monotonic() - self._started_s

    def output_contains(self, text: bytes) -> bool:
        """Return whether the end of its log contains `text`."""
        with self._log.open("rb") as log:
            log.seek(max(0, self._log.stat().st_size - _TAIL_BYTES))
            return text in log.read()

    def handles_signal(self, number: signal.Signals) -> bool:
        """Return whether it has a handler for a signal; during start-up, before it has one, the signal kills it."""
        return self._has_signal("SigCgt:", number)

    def ignores_signal(self, number: signal.Signals) -> bool:
        """Return whether it ignores a signal, as one of the bad handlers does until the worker takes that back."""
        return self._has_signal("SigIgn:", number)

    def _has_signal(self, field: str, number: signal.Signals) -> bool:
        if not self.pid:
            return False
        status = Path(f"/proc/{self.pid}/status").read_text()
        mask = int(status.partition(field)[2].split()[0], 16)
        return bool(mask >> (number - 1) & 1)

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal if the process is running."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Stop it with a signal, or with SIGKILL if it has not ended in time; return its exit code."""
        self.should_run = False
        self.outlived_stop = False
        if self._process is None:
            return 0
        self.send_signal(number)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_TIMEOUT_S):
                return await self._process.wait()
        self.outlived_stop = True
        self.send_signal(signal.SIGKILL)
        return await self._process.wait()


def _prepare_child() -> None:
    die_with_parent()
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a full disk must fail a write, not kill the process
