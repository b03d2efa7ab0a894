"""`worker`: run a worker process, as `python -m workers` does."""

from typing import Annotated

import typer

from spokes.core.process.child_command import become


def worker(
    is_burst: Annotated[bool, typer.Option("--burst", help="Exit when the queue is empty.")] = False,
) -> None:
    """Run a worker process: it runs the handlers for the queued events. Settings come from the environment.

    Example: spokes worker
    """
    become("workers", *(["--burst"] if is_burst else []))
