"""The sentence for a package of handlers that cannot be imported, or has no router: file and line, and what is wrong.

The text of an exception may quote a value, so only that of errors about names and syntax is shown.
"""

import ast
import os
from pathlib import Path
from types import FrameType, ModuleType
from typing import Final

from spokes.core.spelling import closest, did_you_mean
from spokes.core.telemetry.error_places import place_in_package

_ERRORS_ABOUT_NAMES: Final = (ImportError, NameError, AttributeError, TypeError)  # their texts hold no values
_ARGUMENTS: Final = ("reads", "may", "calls", "each_event", "timeout_s", "retries", "concurrency", "rate", "retry_on")
_WRITE_USES: Final = f"`@uses(...)` takes {', '.join(_ARGUMENTS[:-1])} and {_ARGUMENTS[-1]}, each by its name."
_WRITE_REGISTER: Final = (
    'Write `@router.register("contact.creation")`, once for each event type, with property= for one property.'
)
_WRITE_HOST: Final = 'Write Host("https://erp.example.com", rate="10/s"), with rate, connections or timeout_s.'
_WRITE_ROUTER: Final = "Write ROUTER = Router(contacts.router) with the routers of your files."
_OWN_CALLS: Final = {
    "uses()": _WRITE_USES, "Router.register()": _WRITE_REGISTER, "Host.__init__()": _WRITE_HOST,
    "Router.__init__()": _WRITE_ROUTER,
}  # fmt: skip


def is_missing(package: str, error: BaseException) -> bool:
    """Return whether an import failed because the package itself does not exist."""
    return isinstance(error, ModuleNotFoundError) and bool(error.name) and f"{package}.".startswith(f"{error.name}.")


def import_fault(package: str, error: BaseException) -> str:
    """Return the sentence for an exception that the import of HANDLERS raised."""
    if is_missing(package, error):
        return f"HANDLERS names {package!r}, and there is no such package."
    return f"{_place(package, error)}HANDLERS names {package!r}, whose import raises {_explanation(error)}"


def no_router(package: str, module: ModuleType) -> str:
    """Return the sentence for a package without a ROUTER."""
    return (
        f"{_place_of_router(module)}: HANDLERS names {package!r}, which has no ROUTER of type Router. {_WRITE_ROUTER}"
    )


def _explanation(error: BaseException) -> str:
    name = type(error).__name__
    if isinstance(error, SyntaxError):
        return f"{name}: {error.msg}."
    if isinstance(error, KeyError) and (variable := _missing_variable(error)):
        return (
            f"{name}: the environment has no {variable}. Set it; a field of a class of spokes.HandlerSettings is "
            "checked with all other settings."
        )
    if not isinstance(error, _ERRORS_ABOUT_NAMES):
        return f"{name}."
    advice = next((text for call, text in _OWN_CALLS.items() if str(error).startswith(call)), "")
    hint = did_you_mean(closest(_unknown_argument(error), _ARGUMENTS)) if advice is _WRITE_USES else ""
    return f"{name}: {error}.{hint}{' ' if advice else ''}{advice}"


def _unknown_argument(error: BaseException) -> str:
    """Return the name that a TypeError says is no argument, empty if it is about something else."""
    _, found, rest = str(error).partition("unexpected keyword argument '")
    return rest.partition("'")[0] if found else ""


def _missing_variable(error: KeyError) -> str:
    """Return the environment variable whose absence raised an error, empty if something else did."""
    frame: FrameType | None = None
    trace = error.__traceback__
    while trace is not None:
        frame, trace = trace.tb_frame, trace.tb_next
    is_of_environ = frame is not None and frame.f_globals is vars(os)
    return str(error.args[0]) if is_of_environ and error.args else ""


def _place(package: str, error: BaseException) -> str:
    """Return file and line, with a colon, and nothing if the error names neither."""
    if isinstance(error, SyntaxError):
        return f"{os.path.relpath(error.filename)}:{error.lineno}: " if error.filename else ""
    return f"{place_in_package(error, package.partition('.')[0])}: "


def _place_of_router(module: ModuleType) -> str:
    """Return file and line of what is called ROUTER, line 1 if nothing is."""
    if not module.__file__ or not module.__file__.endswith(".py"):  # a folder without __init__.py, or compiled
        return module.__file__ or next(iter(getattr(module, "__path__", ())), "")
    tree = ast.parse(Path(module.__file__).read_bytes())
    names = (node for node in ast.walk(tree) if isinstance(node, ast.Name))
    lines = (name.lineno for name in names if name.id == "ROUTER" and isinstance(name.ctx, ast.Store))
    return f"{os.path.relpath(module.__file__)}:{next(lines, 1)}"
