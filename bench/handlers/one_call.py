"""A handler that reads one contact."""

from spokes.core.events import Event
from spokes.routing import Router, uses
from spokes.tools import Tools

ROUTER = Router()


@ROUTER.register("contact.propertyChange", property="city")
@uses(reads={"contacts": ("phone",)})
async def read_contact(event: Event, tools: Tools) -> None:
    """Make one call."""
    await tools.crm.contacts.get(event.object_id)
