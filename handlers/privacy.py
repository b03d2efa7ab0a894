"""When HubSpot erases a person, we erase what we hold on them."""

from spokes.core.events import Event
from spokes.routing import Router
from spokes.tools import Tools

router = Router()


@router.register("contact.privacyDeletion")
async def forget_contact(event: Event, tools: Tools) -> None:
    """Purge dead letters, ledgers and marks of the contact; the audit holds no value of theirs."""
    del event
    await tools.purge()
