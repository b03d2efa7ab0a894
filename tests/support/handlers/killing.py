"""A handler that kills its process for one object, as running out of memory or a crash in C would."""

import os
import subprocess

from spokes.core.events import Event
from spokes.routing import Router
from spokes.tools import Tools

KILLER = "13"
ROUTER = Router()


@ROUTER.register("contact.creation")
async def take(event: Event, tools: Tools) -> None:
    """Die, or do nothing."""
    del tools
    if event.object_id == KILLER:
        subprocess.run(["/bin/sh", "-c", f"kill -9 {os.getpid()}"], check=False)  # noqa: ASYNC221 - it ends here
