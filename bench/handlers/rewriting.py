"""Handlers that trigger each other: without loop detection they would never stop."""

from spokes.core.events import Event
from spokes.routing import Router, uses
from spokes.tools import Tools

ROUTER = Router()


@ROUTER.register("contact.propertyChange", property="city")
@uses(may=("contacts.update",))
async def set_state(event: Event, tools: Tools) -> None:
    """Change the state after a change of the city."""
    await tools.crm.contacts.update(event.object_id, {"state": f"{event.property_value}+"})


@ROUTER.register("contact.propertyChange", property="state")
@uses(may=("contacts.update",))
async def set_city(event: Event, tools: Tools) -> None:
    """Change the city after a change of the state."""
    await tools.crm.contacts.update(event.object_id, {"city": f"{event.property_value}+"})


@ROUTER.register("contact.propertyChange", property="zip")
@uses(may=("contacts.update",))
async def set_zip(event: Event, tools: Tools) -> None:
    """Overwrite the value that a HubSpot automation sets."""
    await tools.crm.contacts.update(event.object_id, {"zip": "ours"})
