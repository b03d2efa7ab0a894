"""A file of this process that names the handler calls in progress, and gets the stacks if the process crashes in C.

The process writes the calls into mapped memory, which survives it. Python's fault handler, which needs no interpreter,
appends the stacks. The process holds a lock on the file until it ends, however it ends: `left_traces` reads files
without a lock.
"""

import faulthandler
import fcntl
import mmap
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, Self

import orjson
import structlog

from spokes.core.errors import ConfigurationError
from spokes.core.process.private_files import private_folder

SUFFIX: Final = ".trace"
_HEADER_BYTES: Final = 512
_SLOT_BYTES: Final = 256
log = structlog.get_logger()


class TracedCall(NamedTuple):
    """A handler call, as the trace holds it."""

    delivery_id: str
    event_key: str
    handler: str


class CrashTrace:
    """The trace of this process."""

    def __init__(self, file: BinaryIO, path: Path, holder: str, max_runs: int) -> None:
        """Take an empty file, locked by us, with room for `max_runs` handler calls."""
        self._file = file
        self._path = path
        size = _HEADER_BYTES + max_runs * _SLOT_BYTES
        os.ftruncate(file.fileno(), size)
        self._memory = mmap.mmap(file.fileno(), size)
        header = {"holder": holder, "thread": threading.get_ident(), "slots": max_runs}
        self._memory[:_HEADER_BYTES] = orjson.dumps(header).ljust(_HEADER_BYTES)
        self._free = [_HEADER_BYTES + number * _SLOT_BYTES for number in range(max_runs)]
        self.stacks = path.open("ab")  # of the fault handler

    @classmethod
    def open(cls, data_dir: Path, holder: str, max_runs: int) -> Self | None:
        """Create the trace of this process; None if there is no place for it, as on a read-only file system."""
        try:
            folder = private_folder(trace_folder(data_dir))
            path = folder / f"{os.getpid()}-{os.urandom(4).hex()}{SUFFIX}"
            unfinished = path.with_suffix(".new")
            file = unfinished.open("x+b")
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            trace = cls(file, unfinished, holder, max_runs)
            unfinished.rename(path)
        except (OSError, ConfigurationError) as error:
            advice = "A crash in C names no handler. Set DATA_DIR to a folder that is kept."
            log.warning("no_crash_trace", problem=str(error), advice=advice)
            return None
        trace._path = path
        faulthandler.enable(trace.stacks)
        return trace

    def begin(self, delivery_id: str, event_key: str, handler: str) -> int:
        """Record that a handler runs; return the place of the record, 0 if there is none."""
        if not self._free:  # handlers that were given up still run beside those that replaced them
            return 0
        place = self._free.pop()
        record = f"{delivery_id}\n{event_key}\n{handler}\0".encode()[:_SLOT_BYTES]  # a longer one may have been there
        self._memory[place : place + len(record)] = record
        return place

    def end(self, place: int) -> None:
        """Record that the handler recorded at this place has ended."""
        if place:
            self._memory[place] = 0
            self._free.append(place)

    def close(self) -> None:
        """Delete the trace: the process ends in an orderly way."""
        faulthandler.disable()
        with suppress(OSError):
            self._path.unlink()
        self.stacks.close()
        self._memory.close()
        self._file.close()


class LeftTrace(NamedTuple):
    """What a process left behind.

    Attributes:
        holder: its name in leases.
        thread: the thread of its event loop.
        runs: the handler calls in progress when it ended.
        stacks: what the fault handler wrote; empty if the process did not crash.
    """

    holder: str
    thread: int
    runs: tuple[TracedCall, ...]
    stacks: str


def read_trace(content: bytes) -> LeftTrace:
    """Read a trace.

    Raises:
        ValueError: it is not complete.
    """
    try:
        header = orjson.loads(content[:_HEADER_BYTES])
        holder, thread, end = header["holder"], header["thread"], _HEADER_BYTES + header["slots"] * _SLOT_BYTES
    except (KeyError, TypeError, ValueError):
        raise ValueError("This file is no complete crash trace.") from None
    slots = (content[place : place + _SLOT_BYTES] for place in range(_HEADER_BYTES, end, _SLOT_BYTES))
    records = (slot.partition(b"\0")[0].decode(errors="replace").split("\n") for slot in slots if slot[0])
    runs = tuple(TracedCall(*record) for record in records if len(record) == len(TracedCall._fields))
    return LeftTrace(holder, thread, runs, content[end:].decode(errors="replace"))


@contextmanager
def open_trace(data_dir: Path, holder: str, max_calls: int) -> Iterator[CrashTrace | None]:
    """Keep the trace of this process within the block; see CrashTrace.open."""
    trace = CrashTrace.open(data_dir, holder, max_calls)
    try:
        yield trace
    finally:
        if trace is not None:
            trace.close()


def trace_folder(data_dir: Path) -> Path:
    """Return the folder of the traces."""
    return data_dir / "workers"
