"""A handler whose result follows from the object's id: it always fails, fails once, or succeeds."""

from spokes.core.errors import RetryLater
from spokes.core.events import Event
from spokes.routing import Router
from spokes.tools import Tools

ROUTER = Router()
_seen: set[str] = set()


def always_fails(object_id: str) -> bool:
    return int(object_id) % 5 == 0


def fails_once(object_id: str) -> bool:
    return int(object_id) % 5 == 1


@ROUTER.register("contact.creation")
async def count(event: Event, tools: Tools) -> None:
    """Fail as the id says."""
    del tools
    if always_fails(event.object_id):
        raise ValueError
    if fails_once(event.object_id) and event.object_id not in _seen:
        _seen.add(event.object_id)
        raise RetryLater(0.1)
