"""A search for secrets in clear: in logs, the audit, Sentry's envelopes, and all that Redis and SQL hold or held."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

_TOKEN: Final = re.compile(rb"(?:access|na1-refresh|code)-[0-9a-f]{64}")  # as the simulator issues them
# Redis' append-only files hold every command that it was sent.
_SUFFIXES: Final = frozenset({".log", ".jsonl", ".aof", ".envelopes", ".dump"})
_OF_SIMULATOR: Final = frozenset({"calls.jsonl", "events.jsonl", "attempts.jsonl"})


def leaked_secrets(folder: Path, secrets: Iterable[str]) -> Iterator[str]:
    """Yield the files of a run that contain an OAuth token or code, or one of `secrets`."""
    literals = [secret.encode() for secret in secrets]
    for file in sorted(folder.rglob("*")):
        if file.suffix in _SUFFIXES and file.name not in _OF_SIMULATOR and file.is_file():
            content = file.read_bytes()
            if match := _TOKEN.search(content):
                yield f"{match.group().partition(b'-')[0].decode()} in {file.relative_to(folder)}"
            elif any(literal in content for literal in literals):
                yield f"a secret in {file.relative_to(folder)}"
