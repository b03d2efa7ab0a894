"""When HubSpot erases a contact, delete the data we hold on it."""

from spokes import Event, Router, Tools

router = Router()


@router.register("contact.privacyDeletion")
async def forget_contact(event: Event, tools: Tools) -> None:
    """Delete the contact's dead letters, ledger entries and timestamps; audit records hold no property values."""
    del event
    await tools.purge()
