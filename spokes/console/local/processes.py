"""Run several child processes in one terminal. No child process outlives this one, even after a crash."""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from spokes.core.process.child_command import module_environment

_COLOURS: Final = (36, 33, 32, 35, 34, 31)
_GRACE_S: Final = 25.0
_PR_SET_PDEATHSIG: Final = 1


def die_with_parent() -> None:
    """Let Linux send this process SIGTERM when its parent dies, even by SIGKILL."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class _Child(NamedTuple):
    """A child process, how to start it again, and the task that prints its output."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    colour: int
    process: asyncio.subprocess.Process
    output: asyncio.Task[None]


class Processes:
    """Child processes, stopped in the reverse order of their start."""

    def __init__(self, *, print_output: bool = True) -> None:
        """`print_output`: print each line that a process writes, after the process's name."""
        self._print_output = print_output
        self._has_colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        self._running: list[_Child] = []

    async def start(self, name: str, command: Sequence[str], env: Mapping[str, str]) -> None:
        """Start `command` in its own session, so that Ctrl-C reaches only this process, which stops the children."""
        self._running.append(await self._start(name, command, env, _COLOURS[len(self._running) % len(_COLOURS)]))

    async def restart(self, prefixes: tuple[str, ...]) -> None:
        """Stop the processes whose names begin with one of `prefixes` and start them again."""
        for index, child in enumerate(self._running):
            if child.name.startswith(prefixes):
                await _stop(child)
                self._running[index] = await self._start(child.name, child.command, child.env, child.colour)

    async def _start(self, name: str, command: Sequence[str], env: Mapping[str, str], colour: int) -> "_Child":
        process = await asyncio.create_subprocess_exec(
            *command,
            env=module_environment({**os.environ, **env}),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        output = asyncio.create_task(self._forward_output(name, colour, process))
        return _Child(name, command, env, colour, process, output)

    def exited(self) -> str:
        """Return a sentence about a process that has exited by itself; empty if all run."""
        ended = ((each.name, each.process.returncode) for each in self._running)
        return next((f"{name} ended with exit code {code}" for name, code in ended if code is not None), "")

    async def wait_for_exit(self) -> str:
        """Wait until any process exits by itself; return a sentence with its name and exit code."""
        waits = {asyncio.create_task(each.process.wait()): each for each in self._running}
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        ended = waits[done.pop()]
        return f"{ended.name} ended with exit code {ended.process.returncode}"

    async def stop(self) -> None:
        """Send SIGTERM to each process and wait; send SIGKILL after the grace period."""
        for child in reversed(self._running):
            await _stop(child)
        self._running.clear()

    async def _forward_output(self, name: str, colour: int, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None  # noqa: S101 - start() requests a pipe
        while line := await process.stdout.readline():
            if self._print_output:
                text = line.decode(errors="replace").rstrip()
                label = f"\033[{colour}m{name:>9}\033[0m" if self._has_colours else f"{name:>9}"
                print(f"{label} | {text}", flush=True)


async def _stop(child: _Child) -> None:
    if child.process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            child.process.terminate()
        try:
            async with asyncio.timeout(_GRACE_S):
                await child.process.wait()
        except TimeoutError:
            print(f"{child.name} did not end within {_GRACE_S:.0f} s and was killed.", file=sys.stderr)
            child.process.kill()
            await child.process.wait()
    await child.output
