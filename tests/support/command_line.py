"""Commands in tests, as an operator types them. Rule: in this process, from `main` on; starting one takes a second.

What only a process of its own shows has its tests in tests/console/commands/test_commands.py.
"""

import io
import os
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple
from unittest.mock import patch

import structlog

from spokes.console.cli import main


class Done(NamedTuple):
    """What a command came to."""

    returncode: int
    stdout: str
    stderr: str


def spokes(environ: Mapping[str, str], *words: str) -> Done:
    """Run a command with `environ` as all of its settings, and nobody who answers what it asks."""
    with ThreadPoolExecutor(1) as thread:  # an event loop of its own, where a test has one already
        return thread.submit(_run, {"PATH": os.environ["PATH"], **environ}, words).result()


def _run(environ: Mapping[str, str], words: tuple[str, ...]) -> Done:
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    logging = structlog.get_config()
    try:
        with (
            patch.dict(os.environ, environ, clear=True),
            patch.multiple(sys, argv=["spokes", *words], stdin=io.StringIO(), stdout=out, stderr=err),
        ):
            main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        return Done(code, *(stream.buffer.getvalue().decode() for stream in (out, err)))
    finally:
        structlog.configure(**logging)
