"""Read the traces of workers that ended without deleting theirs: name what crashed them, and let their jobs go on.

Traces of workers on other machines, and in containers that are gone, are not seen: their leases lapse, and
`workers.queue.crash_loops` counts their deaths.
"""

import fcntl
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import structlog
from redis.asyncio import Redis

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.audit.alerts.bad_items import READ_ERRORS
from spokes.core import clock
from spokes.core.delivery import Delivery, decode
from spokes.core.redis.keys import IN_PROGRESS_KEY_PREFIX, JOB_KEY_PREFIX, QUEUES, RETRY_KEY_PREFIX, WAKE_CHANNEL
from spokes.core.redis.scripts import read_script
from spokes.core.settings import Settings
from spokes.core.telemetry.alerts import Alert
from spokes.core.telemetry.setup import log_alert
from spokes.routing import Router
from workers.crash_trace import SUFFIX, LeftTrace, TracedCall, read_trace, trace_folder
from workers.queue.crash_loops import blame_events, suspect_events
from workers.queue.leases import lane_key
from workers.queue.release import RELEASE

EXAMINE_EVERY_S: Final = 2.0
_RELEASE_LANES: Final = read_script(__file__, "release_lanes.lua")
_THREAD: Final = re.compile(r"^(Current thread|Thread) 0x([0-9a-f]+)[^\n]*\n((?:  [^\n]*\n?)*)", re.MULTILINE)
_FRAME: Final = re.compile(r'^  File "([^\n]*)", line (\d+) in ([^\n]*)$', re.MULTILINE)
_TIMER: Final = "Timeout ("
_MAX_LOGGED_CHARS: Final = 4_000
log = structlog.get_logger()


class Crash(NamedTuple):
    """How a worker ended by code in C.

    Attributes:
        alert: it crashed, or it was blocked with the interpreter lock held.
        suspects: the handler calls of which one did it.
        error_at: the line that called the code in C, of Python's library or an installed package only if it must be.
        stack: that of the thread, the last call first.
    """

    alert: Alert
    suspects: tuple[TracedCall, ...]
    error_at: str
    stack: str


class LeftTraces:
    """Examines the traces beside that of this process."""

    def __init__(self, redis: Redis, router: Router, settings: Settings) -> None:
        self._redis = redis
        self._episodes = AlertEpisodes(redis)
        self._release = redis.register_script(RELEASE)
        self._release_lanes = redis.register_script(_RELEASE_LANES)
        self._folder = trace_folder(settings.data_dir)
        codes = ((route.name, getattr(route.function, "__code__", None)) for _, route in router)
        self._functions = {name: (code.co_filename, code.co_name) for name, code in codes if code}

    async def examine(self) -> None:
        """Examine and delete the traces of workers that have ended.

        Raises:
            RedisError, OSError: Redis does not answer; the traces are kept for the next time.
        """
        for path in self._folder.glob(f"*{SUFFIX}") if self._folder.is_dir() else ():
            try:
                file = path.open("rb")
            except OSError:  # another process has deleted it
                continue
            with file:
                if _has_ended(file):
                    await self._examine_file(file)
                    path.unlink(missing_ok=True)

    async def _examine_file(self, file: BinaryIO) -> None:
        try:
            trace = read_trace(file.read())
        except ValueError:
            return
        if crash := crash_of(trace, self._functions):
            log.error("worker_crash_stack", worker=trace.holder, stack=crash.stack[:_MAX_LOGGED_CHARS])
            await self._report(crash)
        for delivery_id in {run.delivery_id for run in trace.runs}:  # the others' leases lapse
            await self._free_objects(trace.holder, delivery_id)
            names = [IN_PROGRESS_KEY_PREFIX + delivery_id, RETRY_KEY_PREFIX + delivery_id, *QUEUES.values()]
            await self._release(keys=names, args=[trace.holder, WAKE_CHANNEL, delivery_id, str(clock.now_ms())])

    async def _free_objects(self, holder: str, delivery_id: str) -> None:
        """Release the lanes of a delivery's objects, so that its events need not wait for the leases."""
        if lanes := lanes_of_job(await self._redis.get(JOB_KEY_PREFIX + delivery_id) or b""):
            await self._release_lanes(keys=lanes, args=[f"{holder}:"])

    async def _report(self, crash: Crash) -> None:
        suspects = [(run.delivery_id, run.event_key) for run in crash.suspects]
        is_certain = crash.alert is Alert.WORKER_BLOCKED and len(suspects) == 1
        blamed = suspects if is_certain else await suspect_events(self._redis, suspects)
        await blame_events(self._redis, blamed)
        fields: dict[str, Any] = {"error_at": crash.error_at}
        fields["handler"] = ", ".join(sorted({run.handler for run in crash.suspects}))
        if len(named := blamed or suspects) == 1:
            fields["event_key"] = named[0][1]
        log_alert(crash.alert, **fields)
        await self._episodes.enqueue_message(crash.alert, **fields)


def crash_of(trace: LeftTrace, functions: Mapping[str, tuple[str, str]]) -> Crash | None:
    """Return how a worker crashed; None if it was killed, which says nothing about its events. Pure.

    Args:
        trace: what it left.
        functions: file and name of the function of each handler.
    """
    is_blocked = trace.stacks.startswith(_TIMER)
    for kind, thread, stack in _THREAD.findall(trace.stacks):
        if int(thread, 16) == trace.thread if is_blocked else kind.startswith("Current"):
            frames = _FRAME.findall(stack)
            called = {(filename, name) for filename, _, name in frames}
            # Code in a thread of a handler has no handler in its stack: it may be that of any.
            named = tuple(run for run in trace.runs if functions.get(run.handler) in called)
            if is_blocked and not named:  # the whole process was stopped for so long, as by SIGSTOP
                return None
            alert = Alert.WORKER_BLOCKED if is_blocked else Alert.WORKER_CRASHED
            return Crash(alert, named or trace.runs, _place(frames), stack)
    return None


def lanes_of_job(payload: bytes) -> list[str]:
    """Return the lanes of the objects of a queued job; none if it cannot be read. Pure."""
    try:
        delivery = Delivery.from_job(decode(payload)["a"][0])
        return sorted({lane_key(entry.event, entry.key) for entry in delivery.entries if entry.is_event})
    except READ_ERRORS:
        return []


def _place(frames: Sequence[tuple[str, str, str]]) -> str:
    own = [frame for frame in frames if "/lib/python" not in frame[0]]
    filename, line, _ = (own or frames or [("", "", "")])[0]
    return f"{'/'.join(Path(filename).parts[-2:])}:{line}"


def _has_ended(file: BinaryIO) -> bool:
    """Return whether the process that made the file has ended; if so, no other process examines it meanwhile."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
