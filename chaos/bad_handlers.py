"""Handlers that fail in every way a handler can; a change of the property with a handler's name runs it."""

import _thread
import asyncio
import ctypes
import multiprocessing
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from spokes.core import errors as public_errors
from spokes.core.errors import CRMUnavailable, NotAuthorized, RateLimited, RetryLater
from spokes.core.events import Event
from spokes.routing import Router
from spokes.tools import Tools

if TYPE_CHECKING:
    from collections.abc import Callable

ROUTER = Router()
_PROPERTY_CHANGE = "contact.propertyChange"


class OwnBaseException(BaseException):
    """An exception that `except Exception` does not catch."""


async def _wait() -> None:
    await asyncio.sleep(60)


async def _exit() -> NoReturn:
    sys.exit(3)


@ROUTER.register(_PROPERTY_CHANGE, property="ok")
async def ok(event: Event, tools: Tools) -> None:
    """Do nothing."""


@ROUTER.register(_PROPERTY_CHANGE, property="cancelled_task")
async def cancelled_task(event: Event, tools: Tools) -> None:
    """Await a task that was cancelled."""
    task = asyncio.create_task(_wait())
    await asyncio.sleep(0)
    task.cancel()
    await task


@ROUTER.register(_PROPERTY_CHANGE, property="cancels_itself")
async def cancels_itself(event: Event, tools: Tools) -> None:
    """Cancel the task that runs the handler, and return."""
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


@ROUTER.register(_PROPERTY_CHANGE, property="cancels_itself_later")
async def cancels_itself_later(event: Event, tools: Tools) -> None:
    """Cancel the task that runs the handler while the handler waits."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().call_soon(task.cancel)
    await asyncio.sleep(60)


@ROUTER.register(_PROPERTY_CHANGE, property="raises")
async def raises(event: Event, tools: Tools) -> None:
    """Raise the exception that the event's value names, one of `spokes.core.errors` for example."""
    value = event.property_value or ""
    errors: dict[str, BaseException] = {
        "CancelledError": asyncio.CancelledError(),
        "GeneratorExit": GeneratorExit(),
        "KeyboardInterrupt": KeyboardInterrupt(),
        "SystemExit": SystemExit(1),
        "OwnBaseException": OwnBaseException(),
        "BaseExceptionGroup": BaseExceptionGroup("", [OwnBaseException()]),
        "bug and transient": ExceptionGroup("", [CRMUnavailable(), ValueError()]),
        "transient": ExceptionGroup("", [CRMUnavailable(), ExceptionGroup("", [RateLimited()])]),
        "waits": ExceptionGroup("", [RetryLater(0.01), CRMUnavailable()]),
        "not authorized": BaseExceptionGroup("", [ValueError(), OwnBaseException(), NotAuthorized()]),
    }
    if value in errors:
        raise errors[value]
    raise getattr(public_errors, value)


@ROUTER.register(_PROPERTY_CHANGE, property="exits_in_group")
async def exits_in_group(event: Event, tools: Tools) -> None:
    """End the process from a task of a TaskGroup."""
    async with asyncio.TaskGroup() as group:
        group.create_task(_exit())
        group.create_task(_wait())


@ROUTER.register(_PROPERTY_CHANGE, property="exits_in_gather")
async def exits_in_gather(event: Event, tools: Tools) -> None:
    """End the process from a task of `asyncio.gather`."""
    await asyncio.gather(_exit(), asyncio.sleep(0.05))


@ROUTER.register(_PROPERTY_CHANGE, property="exits_in_background")
async def exits_in_background(event: Event, tools: Tools) -> None:
    """End the process from a task that nobody awaits."""
    asyncio.get_running_loop().create_task(_exit())
    await asyncio.sleep(0.05)


@ROUTER.register(_PROPERTY_CHANGE, property="stops_loop")
async def stops_loop(event: Event, tools: Tools) -> None:
    """Stop the event loop, as code does that believes it has a loop of its own."""
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0.05)


@ROUTER.register(_PROPERTY_CHANGE, property="swallows_cancellation")
async def swallows_cancellation(event: Event, tools: Tools) -> None:
    """Wait for five minutes and ignore three cancellations."""
    deadline, cancellations = time.monotonic() + 300, 0
    while time.monotonic() < deadline and cancellations < 3:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancellations += 1


@ROUTER.register(_PROPERTY_CHANGE, property="never_ends")
async def never_ends(event: Event, tools: Tools) -> None:
    """Ignore every cancellation."""
    while True:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)


@ROUTER.register(_PROPERTY_CHANGE, property="blocks")
async def blocks(event: Event, tools: Tools) -> None:
    """Block the event loop for five minutes."""
    time.sleep(300)  # noqa: ASYNC251 - what the watchdog is for


@ROUTER.register(_PROPERTY_CHANGE, property="waits")
async def waits(event: Event, tools: Tools) -> None:
    """Wait for as many seconds as the event's value says."""
    await asyncio.sleep(float(event.property_value or 0))


@ROUTER.register(_PROPERTY_CHANGE, property="blocks_briefly")
async def blocks_briefly(event: Event, tools: Tools) -> None:
    """Block the event loop for as many seconds as the event's value says."""
    time.sleep(float(event.property_value or 0))  # noqa: ASYNC251 - longer than a lease


@ROUTER.register(_PROPERTY_CHANGE, property="kills_worker")
async def kills_worker(event: Event, tools: Tools) -> None:
    """Kill the worker, as the kernel does for lack of memory."""
    subprocess.run(["/bin/sh", "-c", f"kill -9 {os.getpid()}"], check=False)  # noqa: ASYNC221, S603 - it ends here


@ROUTER.register(_PROPERTY_CHANGE, property="harms_process")
async def harms_process(event: Event, tools: Tools) -> None:
    """Call a function that ends, stops, signals or forks the process: the one that the event's value names."""
    calls: dict[str, Callable[[], object]] = {
        "os._exit": lambda: os._exit(3),
        "os.abort": os.abort,
        "os.kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
        "SIGSTOP": lambda: os.kill(os.getpid(), signal.SIGSTOP),
        "SIGTERM": lambda: os.kill(os.getpid(), signal.SIGTERM),
        "os.killpg": lambda: os.killpg(0, signal.SIGINT),
        "raise_signal": lambda: signal.raise_signal(signal.SIGKILL),
        "pthread_kill": lambda: signal.pthread_kill(threading.get_ident(), signal.SIGSEGV),
        "interrupt_main": _thread.interrupt_main,
        "os.fork": os.fork,
        "multiprocessing": lambda: multiprocessing.get_context("fork").Process(target=print).start(),
        "os.execv": lambda: os.execv(sys.executable, [sys.executable, "--version"]),  # noqa: S606 - it is refused
        "setrlimit": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3)),
        "ctypes": lambda: ctypes.CDLL(None).abort(),
    }
    calls[event.property_value or ""]()


@ROUTER.register(_PROPERTY_CHANGE, property="leaves_thread")
async def leaves_thread(event: Event, tools: Tools) -> None:
    """Leave a thread that runs for five minutes."""
    threading.Thread(target=time.sleep, args=(300,)).start()


@ROUTER.register(_PROPERTY_CHANGE, property="raises_in_timer")
async def raises_in_timer(event: Event, tools: Tools) -> None:
    """Raise an exception from a signal handler, wherever the loop is then."""

    def fail(*_: object) -> NoReturn:
        raise OwnBaseException

    signal.signal(signal.SIGALRM, fail)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    await asyncio.sleep(0.3)


@ROUTER.register(_PROPERTY_CHANGE, property="closes_output")
async def closes_output(event: Event, tools: Tools) -> None:
    """Close the standard streams, and fail as `print` does then."""
    sys.stdout.close()
    sys.stderr.close()
    raise ValueError


@ROUTER.register(_PROPERTY_CHANGE, property="cancels_all_tasks")
async def cancels_all_tasks(event: Event, tools: Tools) -> None:
    """Cancel every task of the worker."""
    for task in asyncio.all_tasks():
        task.cancel()


@ROUTER.register(_PROPERTY_CHANGE, property="crashes")
async def crashes(event: Event, tools: Tools) -> None:
    """Crash the worker in C after as many seconds as the event's value says."""
    await asyncio.sleep(float(event.property_value or 0))
    ctypes.string_at(0)


@ROUTER.register(_PROPERTY_CHANGE, property="blocks_interpreter")
async def blocks_interpreter(event: Event, tools: Tools) -> None:
    """Hold the interpreter lock, so that no other thread runs."""
    sum(range(10**11))


@ROUTER.register(_PROPERTY_CHANGE, property="replaces_sleep")
async def replaces_sleep(event: Event, tools: Tools) -> None:
    """Replace a function that every part of the worker uses."""

    async def fail(*_: object) -> NoReturn:
        raise RuntimeError

    setattr(asyncio, "sleep", fail)  # noqa: B010 - mypy refuses the assignment, rightly


@ROUTER.register(_PROPERTY_CHANGE, property="sets_task_factory")
async def sets_task_factory(event: Event, tools: Tools) -> None:
    """Set a task factory that fails."""

    def fail(*_: object, **__: object) -> NoReturn:
        raise RuntimeError

    asyncio.get_running_loop().set_task_factory(fail)


@ROUTER.register(_PROPERTY_CHANGE, property="ignores_sigterm")
async def ignores_sigterm(event: Event, tools: Tools) -> None:
    """Ignore the signal that ends a worker."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


@ROUTER.register(_PROPERTY_CHANGE, property="ends_executor")
async def ends_executor(event: Event, tools: Tools) -> None:
    """Shut down the event loop's executor."""
    await asyncio.get_running_loop().shutdown_default_executor()


@ROUTER.register(_PROPERTY_CHANGE, property="replaces_executor")
async def replaces_executor(event: Event, tools: Tools) -> None:
    """Give the event loop an executor that ends with the handler."""
    with ThreadPoolExecutor(1) as executor:
        asyncio.get_running_loop().set_default_executor(executor)


@ROUTER.register(_PROPERTY_CHANGE, property="uses_thread")
async def uses_thread(event: Event, tools: Tools) -> None:
    """Run a function in the event loop's executor."""
    await asyncio.to_thread(os.getpid)


@ROUTER.register(_PROPERTY_CHANGE, property="replaces_clocks")
async def replaces_clocks(event: Event, tools: Tools) -> None:
    """Replace the clocks, as libraries for tests do."""
    for name in ("time", "time_ns", "monotonic", "perf_counter"):
        setattr(time, name, None)


@ROUTER.register(_PROPERTY_CHANGE, property="cuts_connections")
async def cuts_connections(event: Event, tools: Tools) -> None:
    """Shut down every connection of the process, those to Redis and HubSpot."""
    for number in range(3, 256):
        with suppress(OSError), socket.socket(fileno=os.dup(number)) as copy:
            if copy.family == socket.AF_INET:
                copy.shutdown(socket.SHUT_RDWR)


@ROUTER.register(_PROPERTY_CHANGE, property="cancels_lane_pool")
async def cancels_lane_pool(event: Event, tools: Tools) -> None:
    """Cancel the tasks that start and run handlers, except its own."""
    for task in asyncio.all_tasks():
        if task is not asyncio.current_task() and "LanePool" in repr(task.get_coro()):
            task.cancel()
