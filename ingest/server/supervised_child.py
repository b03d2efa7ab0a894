"""`SupervisedChild`: a process of its own beside the web processes, restarted whenever it ends.

It cannot hold up the web process. Of several web processes one holds a file lock and supervises the child. When that
one ends, the child's standard input closes, and the child ends too.
"""

import asyncio
import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import structlog

from spokes.core.process.child_command import module_command, module_environment
from spokes.core.settings import Settings

_MIN_RESTART_DELAY_S, _MAX_RESTART_DELAY_S = 0.5, 30.0
_STABLE_AFTER_S: Final = 60.0  # a child that ran longer is restarted after the minimum delay
_TERMINATE_TIMEOUT_S: Final = 6.0  # children give what is in flight five seconds
log = structlog.get_logger()


@contextlib.contextmanager
def temporary_child_folder(settings: Settings) -> Iterator[Path | None]:
    """Make the private folder of sockets and locks, shared by all web processes; yield None if there is no child."""
    if not settings.console_key.get_secret_value() and not settings.journal:
        yield None
        return
    owner, folder = os.getpid(), Path(tempfile.mkdtemp(prefix="spokes-children-"))
    try:
        yield folder
    finally:
        if os.getpid() == owner:  # forked web processes leave this block too
            shutil.rmtree(folder, ignore_errors=True)


class SupervisedChild:
    """Runs one module as a child process, in the one web process that holds the lock."""

    def __init__(self, name: str, module: str, arguments: Sequence[str], folder: Path) -> None:
        """Run `module` with these arguments; its end is logged as `<name>_ended`.

        Args:
            name: of the lock too.
            module: as in `python -m`.
            arguments: of the module.
            folder: the one of `temporary_child_folder`.
        """
        self._end_event = f"{name}_ended"
        self._command = module_command(module, *arguments)
        self._lock = folder / f"{name}.lock"

    async def supervise(self) -> None:
        """Keep the child running once this process gets the lock, until cancelled."""
        with self._lock.open("w") as lock:
            while not _try_lock(lock.fileno()):  # noqa: ASYNC110 - a released file lock notifies nobody
                await asyncio.sleep(_MIN_RESTART_DELAY_S)
            delay_s = _MIN_RESTART_DELAY_S
            while True:
                started = time.monotonic()
                code = await self._run()
                was_stable = time.monotonic() - started > _STABLE_AFTER_S
                delay_s = _MIN_RESTART_DELAY_S if was_stable else min(delay_s * 2, _MAX_RESTART_DELAY_S)
                log.error(self._end_event, exit_code=code, again_in_s=delay_s)
                await asyncio.sleep(delay_s)

    async def _run(self) -> int:
        child = await asyncio.create_subprocess_exec(
            *self._command, stdin=asyncio.subprocess.PIPE, env=module_environment(os.environ)
        )
        try:
            return await child.wait()
        finally:
            if child.returncode is None:
                child.terminate()
                try:
                    await asyncio.wait_for(child.wait(), _TERMINATE_TIMEOUT_S)
                except TimeoutError:
                    child.kill()
                    await child.wait()


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
