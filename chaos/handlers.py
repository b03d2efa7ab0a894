"""The default handlers, bad ones, and two for one event whose effects are counted: notes, created without `once`."""

from typing import Final

import handlers
from chaos import bad_handlers
from spokes.core.errors import RetryLater
from spokes.core.events import Event
from spokes.routing import Router, uses
from spokes.tools import Tools

_ROUTER = Router()
_COPY: Final = "Copy of"


@_ROUTER.register("contact.propertyChange", property="city")
@uses(may=("notes.create",), each_event=True)
async def create_note(event: Event, tools: Tools) -> None:
    """Create a note for each change, without `once`: at least one, and another after a crash."""
    await tools.crm.notes.create({"hs_note_body": event.property_value}, to={"contact": (event.object_id,)})


@_ROUTER.register("contact.propertyChange", property="city")
@uses(may=("notes.create",), each_event=True)
async def create_copy(event: Event, tools: Tools) -> None:
    """Create another note for each change, half of them in a second attempt, which the first handler must not have."""
    if tools.attempt == 1 and int((event.property_value or "0")[-1]) % 2:
        raise RetryLater("every other change is retried", after_s=0.2)
    await tools.crm.notes.create(
        {"hs_note_body": f"{_COPY} {event.property_value}"}, to={"contact": (event.object_id,)}
    )


ROUTER = Router(handlers.ROUTER, bad_handlers.ROUTER, _ROUTER)
NOTED_TYPE = "contact.propertyChange:city"
NOTED_BY: Final = {"handlers.create_note": "", "handlers.create_copy": f"{_COPY} "}  # how each handler's notes begin
BAD_TYPES = bad_handlers.ROUTER.registrations
