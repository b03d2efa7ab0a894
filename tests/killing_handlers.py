"""A handler that kills its process for one object, as endless memory or a crash in C would."""

import os
import signal

from core.events import Event
from handlers.routing import Router
from handlers.tools import Tools

KILLER = "13"
ROUTER = Router()


@ROUTER.register("contact.creation")
async def take(event: Event, tools: Tools) -> None:
    """Die, or do nothing."""
    del tools
    if event.object_id == KILLER:
        os.kill(os.getpid(), signal.SIGKILL)
