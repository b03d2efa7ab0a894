"""Checkpoints outside the store: appended to the file, or sent to the URL, of CHECKPOINT_TO."""

import os
from pathlib import Path
from typing import Final

import aiohttp

from spokes.audit.checkpoints import Checkpoint
from spokes.core.errors import AuditUnavailable

_TIMEOUT_S: Final = 10.0


async def keep_checkpoint(target: str, checkpoint: Checkpoint) -> None:
    """Append a checkpoint to the file `target` if its last line differs, or send it by POST to the URL `target`.

    Raises:
        AuditUnavailable: it was not kept.
    """
    if not _is_url(target):
        _append(Path(target), checkpoint.to_text())
        return
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    headers = {"Content-Type": "text/plain", "User-Agent": "spokes"}
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as session,
            session.post(target, data=checkpoint.to_text(), headers=headers, allow_redirects=False) as response,
        ):
            status = response.status
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise AuditUnavailable(f"The server of CHECKPOINT_TO does not answer ({type(error).__name__}).") from None
    if not 200 <= status < 300:  # noqa: PLR2004 - HTTP's own numbers
        raise AuditUnavailable(f"The server of CHECKPOINT_TO answered {status}.")


def kept_checkpoints(target: str) -> list[Checkpoint]:
    """Return the checkpoints in the file `target`; none if it is a URL, or if there is no file yet.

    Raises:
        AuditUnavailable: a line is not a checkpoint, or the file cannot be read.
    """
    if not target or _is_url(target) or not Path(target).exists():
        return []
    return [Checkpoint.from_text(line) for line in _read(Path(target)).splitlines() if line.strip()]


def _append(path: Path, line: str) -> None:
    if path.exists() and _read(path).splitlines()[-1:] == [line]:
        return
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a", encoding="utf-8") as file:
            file.write(f"{line}\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise AuditUnavailable(f"The file of CHECKPOINT_TO cannot be written ({type(error).__name__}).") from None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise AuditUnavailable(f"The file of CHECKPOINT_TO cannot be read ({type(error).__name__}).") from None


def _is_url(target: str) -> bool:
    return "://" in target
