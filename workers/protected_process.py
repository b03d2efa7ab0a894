"""Refuse calls of a handler that would end, stop, signal or fork the worker process: they raise instead.

The handlers of other events run in the same process. An audit hook sees most such calls before they act; the
functions of the standard library that raise no audit event are replaced. Code in C is not seen: a worker that it ends
leaves its traces to `workers.queue.crash_loops`.
"""

import _thread
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, Final

exit_process: Final = os._exit  # for our own exits
_ADVICE: Final = "Raise an exception to fail the event."
_INSTEAD_OF_FORK: Final = (
    "A copy would share its connections and its event loop. "
    "Use `subprocess`, or `multiprocessing` with the start method `spawn`."
)
_AUDITED: Final = frozenset(
    {"os.kill", "os.killpg", "signal.pthread_kill", "os.fork", "os.forkpty", "os.exec", "resource.setrlimit"}
    | {"resource.prlimit", "ctypes.dlsym"}
)
_C_FUNCTIONS: Final = frozenset(
    {"_exit", "_Exit", "exit", "quick_exit", "abort", "kill", "killpg", "raise", "tgkill", "pthread_kill", "fork"}
    | {"vfork", "forkpty", "execv", "execve", "execvp", "execl", "execlp"}
)
# Without a handler of its own, a signal of a timer ends the process.
_TIMER_SIGNALS: Final = (signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF)


class ProcessCallRefused(RuntimeError):
    """A handler called a function that would end, stop, signal or fork its worker."""

    def __init__(self, call: str, advice: str = _ADVICE) -> None:
        super().__init__(f"{call} would harm the worker process, which runs other events too. {advice}")
        self.call = call


def protect_process() -> None:
    """Refuse such calls in this process from now on, for good; child processes are free to make them."""
    pid = os.getpid()
    for module, name in ((os, "_exit"), (os, "abort"), (_thread, "interrupt_main")):
        setattr(module, name, _refusing(pid, getattr(module, name), f"{module.__name__}.{name}"))
    for name in ("raise_signal", "pidfd_send_signal"):  # the latter on Linux only
        if original := getattr(signal, name, None):
            setattr(signal, name, _refusing(pid, original, f"signal.{name}"))
    for number in _TIMER_SIGNALS:
        signal.signal(number, lambda *_: None)
    sys.addaudithook(_audit_hook(pid))


def _refusing(pid: int, original: Callable[..., Any], name: str) -> Callable[..., Any]:
    def call(*args: Any, **options: Any) -> Any:
        if os.getpid() == pid:
            raise ProcessCallRefused(name)
        return original(*args, **options)

    return call


def _audit_hook(pid: int) -> Callable[[str, tuple[Any, ...]], None]:
    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event in _AUDITED and (call := harmful_call(event, args, pid)) and os.getpid() == pid:
            raise ProcessCallRefused(call, _INSTEAD_OF_FORK if "fork" in call else _ADVICE)

    return hook


def harmful_call(event: str, args: tuple[Any, ...], pid: int) -> str:
    """Return the name of the call that an audit event announces if it would harm the process `pid`, else ""."""
    match event, args:
        case ("os.kill", (target, number)):
            is_harmful = number != 0 and _reaches(target, pid)
        case ("os.killpg", (group, number)):
            is_harmful = number != 0 and _reaches(-group, pid)
        case ("signal.pthread_kill", (_, number)):
            is_harmful = number != 0
        case ("resource.prlimit", (target, _, limits)):
            is_harmful = limits is not None and target in {0, pid}
        case ("ctypes.dlsym", (_, name)):
            is_harmful = name in _C_FUNCTIONS
        case _:
            is_harmful = True
    return event if is_harmful else ""


def _reaches(target: int, pid: int) -> bool:
    """Return whether a signal to `target` reaches the process `pid`, as itself or as part of a group."""
    return target in {pid, 0, -1} or (target < -1 and -target == os.getpgid(pid))
