"""Handlers that each need one kind of call, for tests of partial outages of HubSpot."""

from spokes import Event, Router, Tools, uses, where

ROUTER = Router()


@ROUTER.register("contact.propertyChange", property="written")
@uses(may=("contacts.update",))
async def write(event: Event, tools: Tools) -> None:
    """Write to the contact."""
    await tools.crm.contacts.update(event.object_id, {"city": "Berlin"})


@ROUTER.register("contact.propertyChange", property="read")
@uses(reads={"contacts": ("city",)})
async def read(event: Event, tools: Tools) -> None:
    """Read the contact."""
    await tools.crm.contacts.get(event.object_id)


@ROUTER.register("contact.propertyChange", property="company")
@uses(reads={"companies": ("name",)})
async def read_company(event: Event, tools: Tools) -> None:
    """Read a company."""
    await tools.crm.companies.get(event.property_value or "")


@ROUTER.register("contact.propertyChange", property="searched")
@uses(reads={"contacts": ("city",)})
async def search(event: Event, tools: Tools) -> None:
    """Search for contacts."""
    await tools.crm.contacts.search(where("city").equals("Berlin"), limit=1)
