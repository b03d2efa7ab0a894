"""Two handlers of which each changes what the other waits for: left alone, they would never end."""

from spokes.core.events import Event
from spokes.routing import Router, uses
from spokes.tools import Tools

ROUTER = Router()


@ROUTER.register("contact.propertyChange", property="city")
@uses(may=("contacts.update",))
async def set_state(event: Event, tools: Tools) -> None:
    """Answer a change of the city by another state."""
    await tools.crm.contacts.update(event.object_id, {"state": f"{event.property_value}+"})


@ROUTER.register("contact.propertyChange", property="state")
@uses(may=("contacts.update",))
async def set_city(event: Event, tools: Tools) -> None:
    """Answer a change of the state by another city."""
    await tools.crm.contacts.update(event.object_id, {"city": f"{event.property_value}+"})


@ROUTER.register("contact.propertyChange", property="zip")
@uses(may=("contacts.update",))
async def set_zip(event: Event, tools: Tools) -> None:
    """Set back what an automation of HubSpot's sets."""
    await tools.crm.contacts.update(event.object_id, {"zip": "ours"})
