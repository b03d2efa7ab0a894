"""Handlers that fail while they hold property values, for the test that searches all outputs for these values."""

import asyncio
import logging
import threading
import warnings

from spokes.core.events import Event
from spokes.routing import Router, uses
from spokes.tools import Tools

ROUTER = Router()


def _fail(value: str) -> None:
    raise LookupError(value)


@ROUTER.register("contact.creation")
@uses(reads={"contacts": ("email", "firstname")}, may=("contacts.update", "notes.create"))
async def refused_by_hubspot(event: Event, tools: Tools) -> None:
    """Write a person's values; HubSpot refuses them in an error that repeats them."""
    contact = await tools.crm.contacts.get(event.object_id)
    await tools.crm.contacts.update(event.object_id, {"email": contact["email"], "firstname": contact["firstname"]})


@ROUTER.register("contact.propertyChange", property="firstname")
async def raises(event: Event, tools: Tools) -> None:
    """Leak the value everywhere: handler, log, warning, thread, event loop, a task that is never awaited."""
    del tools
    local = {"value": event.property_value}
    logging.getLogger("urllib3.connectionpool").debug("sending %s", local)
    logging.getLogger("asyncio").info("job argument %s", local)
    warnings.warn(f"odd value {event.property_value}", stacklevel=1)
    threading.Thread(target=_fail, args=(event.property_value,)).start()
    loop = asyncio.get_running_loop()
    loop.call_soon(_fail, event.property_value)
    loop.create_task(asyncio.to_thread(_fail, event.property_value))  # noqa: RUF006 - deliberately not awaited
    try:
        raise KeyError(event.property_value)
    except KeyError as error:
        raise ValueError(f"cannot work with {event.property_value}") from error


@ROUTER.register("contact.propertyChange", property="email")
async def retried(event: Event, tools: Tools) -> None:
    """Fail for a while, with the value in the exception."""
    raise ConnectionError(f"{event.property_value} {tools.attempt}")


@ROUTER.register("contact.propertyChange", property="lastname")
async def works(event: Event, tools: Tools) -> None:
    """Do nothing."""
    del event, tools
