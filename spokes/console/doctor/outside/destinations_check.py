"""Check what the processes send to others beside alerts: checkpoints to CHECKPOINT_TO, errors to SENTRY_DSN."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from spokes.console.doctor.findings import Finding, fault, ok, warning
from spokes.core.settings import Settings

CHECKPOINTS: Final = "checkpoints"
SENTRY: Final = "sentry"
_TIMEOUT_S: Final = 5.0
_PORTS: Final = {"http": 80, "https": 443}


async def check_destinations(settings: Settings) -> list[Finding]:
    """Check that each of them can be reached, without sending anything; no finding for what is not set."""
    return [finding async for finding in _check(settings)]


async def _check(settings: Settings) -> AsyncIterator[Finding]:
    target = settings.checkpoint_to.get_secret_value()
    if target and "://" not in target:
        yield assess_checkpoint_file(Path(target))
    elif target:
        problem = await _connection_problem(target)
        remedy = "so no checkpoint is kept outside. Correct CHECKPOINT_TO"
        yield (
            fault(CHECKPOINTS, f"The server of CHECKPOINT_TO cannot be reached ({problem}), {remedy}.")
            if problem
            else ok(CHECKPOINTS, "The server of CHECKPOINT_TO answers.")
        )
    if dsn := settings.sentry_dsn.get_secret_value():
        problem = await _connection_problem(dsn)
        yield (
            warning(SENTRY, f"Sentry cannot be reached ({problem}), so errors are in the log only. Correct SENTRY_DSN.")
            if problem
            else ok(SENTRY, "The server of SENTRY_DSN answers.")
        )


def assess_checkpoint_file(path: Path) -> Finding:
    """Check that this user can append to the file or create it."""
    try:
        is_writable = os.access(path, os.W_OK) and path.is_file() if path.exists() else os.access(path.parent, os.W_OK)
    except OSError:  # a name that no file system accepts
        is_writable = False
    if is_writable:
        return ok(CHECKPOINTS, "The file of CHECKPOINT_TO can be written.")
    return fault(
        CHECKPOINTS,
        "The file of CHECKPOINT_TO cannot be written, so no checkpoint is kept outside. Set CHECKPOINT_TO to a file in "
        "a folder that exists and that this user can write to.",
    )


async def _connection_problem(url: str) -> str:
    """Return the class of the error of a connection to the server of `url`; empty if it accepts one."""
    parts = urlsplit(url)
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            _, writer = await asyncio.open_connection(parts.hostname, parts.port or _PORTS.get(parts.scheme, 443))
    except (OSError, TimeoutError, ValueError) as error:
        return type(error).__name__
    writer.close()
    return ""
