"""workers.crash_trace and workers.upkeep.left_traces: what a worker that crashed in C leaves behind."""

import subprocess
import sys
from pathlib import Path

import pytest

from spokes.core.telemetry.alerts import Alert
from tests.support.deployment import ROOT
from workers.crash_trace import LeftTrace, TracedCall, read_trace
from workers.upkeep.left_traces import crash_of

FIRST = TracedCall("50112233-1-a", "k1", "handlers.first")
SECOND = TracedCall("50112233-1-a", "k2", "handlers.second")
FUNCTIONS = {"handlers.first": ("/app/handlers/x.py", "first"), "handlers.second": ("/app/handlers/x.py", "second")}
BLOCKED = """Timeout (0:00:40)!
Thread 0x00000000000000aa (most recent call first):
  File "/app/handlers/x.py", line 3 in second

Thread 0x00000000000000bb [worker] (most recent call first):
  File "/usr/lib/python3.11/re/__init__.py", line 166 in match
  File "/app/handlers/x.py", line 9 in first
  File "/app/workers/delivery/dispatch.py", line 250 in _call_handler
"""
CRASHED = """Fatal Python error: Segmentation fault

Current thread 0x00000000000000aa (most recent call first):
  File "/app/handlers/x.py", line 3 in second

Thread 0x00000000000000bb (most recent call first):
  File "/app/handlers/x.py", line 9 in first
"""
_CRASHES = """
import ctypes, sys
from pathlib import Path
from workers.crash_trace import CrashTrace
trace = CrashTrace.open(Path(sys.argv[1]), "me", 8)
trace.end(trace.begin("1-1-a", "ended", "handlers.first"))
trace.begin("1-1-a", "runs", "handlers.first")
ctypes.string_at(0)
"""


def left(stacks: str, *runs: TracedCall) -> LeftTrace:
    return LeftTrace("me", 0xBB, runs, stacks)


@pytest.mark.parametrize(
    ("stacks", "alert", "suspect", "error_at"),
    [
        (BLOCKED, Alert.WORKER_BLOCKED, FIRST, "handlers/x.py:9"),
        (CRASHED, Alert.WORKER_CRASHED, SECOND, "handlers/x.py:3"),
    ],
)
def test_crash_is_that_of_the_handler_in_the_stack(
    stacks: str, alert: Alert, suspect: TracedCall, error_at: str
) -> None:
    crash = crash_of(left(stacks, FIRST, SECOND), FUNCTIONS)
    assert crash is not None
    assert crash[:3] == (alert, (suspect,), error_at)


def test_crash_outside_of_all_handlers_may_be_that_of_any_running_one() -> None:
    crash = crash_of(left(CRASHED, FIRST, SECOND), {})
    assert crash is not None
    assert crash.suspects == (FIRST, SECOND)


def test_worker_that_was_stopped_while_its_handlers_waited_is_no_crash() -> None:
    assert crash_of(left(BLOCKED, FIRST), {}) is None


def test_killed_worker_is_no_crash() -> None:
    assert crash_of(left("", FIRST), FUNCTIONS) is None


def test_trace_of_a_crashed_process_names_what_ran_and_where_it_crashed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _CRASHES, str(tmp_path)]
    process = subprocess.run(command, cwd=ROOT, check=False, stdout=subprocess.DEVNULL)
    assert process.returncode < 0
    [path] = (tmp_path / "workers").iterdir()
    trace = read_trace(path.read_bytes())
    assert (trace.holder, trace.runs) == ("me", (TracedCall("1-1-a", "runs", "handlers.first"),))
    crash = crash_of(trace, {})
    assert crash is not None
    assert (crash.alert, crash.error_at) == (Alert.WORKER_CRASHED, "<string>:8")


@pytest.mark.parametrize("content", [b"", b"{}", b"x" * 600, b'{"holder": "me"}'.ljust(512)])
def test_incomplete_trace_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="no complete crash trace"):
        read_trace(content)
