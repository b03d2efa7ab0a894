"""The default handlers, bad ones, and one whose effect is counted: it creates a note without `once`."""

import handlers
from chaos import bad_handlers
from spokes.core.events import Event
from spokes.routing import Router, uses
from spokes.tools import Tools

_ROUTER = Router()


@_ROUTER.register("contact.propertyChange", property="city")
@uses(may=("notes.create",), each_event=True)
async def create_note(event: Event, tools: Tools) -> None:
    """Create a note for each change, without `once`: at least one, and another after a crash."""
    await tools.crm.notes.create({"hs_note_body": event.property_value}, to={"contact": (event.object_id,)})


ROUTER = Router(handlers.ROUTER, bad_handlers.ROUTER, _ROUTER)
NOTED_TYPE = "contact.propertyChange:city"
BAD_TYPES = bad_handlers.ROUTER.registrations
