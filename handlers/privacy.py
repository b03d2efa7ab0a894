"""When HubSpot erases a person, we erase what we hold on them."""

from core.events import Event
from handlers.routing import Router
from handlers.tools import Tools

router = Router()


@router.register("contact.privacyDeletion")
async def forget_contact(event: Event, tools: Tools) -> None:
    """Purge dead letters, ledgers and marks of the contact; the audit holds no value of theirs."""
    del event
    await tools.forget()
