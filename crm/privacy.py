"""What the law asks for: erasing one person, and showing what is kept. Rule: erased means that a read finds nothing.

Source: HubSpot's docs, "Contacts guide" (gdpr-delete).
"""

import asyncio
from typing import Final

from core.errors import CRMUnavailable, ObjectNotFound
from crm.access import Access, Done
from crm.calls import Request
from crm.objects import Objects, Record

_CHECKS_AFTER_S: Final = (0.0, 0.5, 2.0)
_KEPT_WITH: Final = ("companies", "deals", "tickets", "notes", "tasks", "calls", "emails")


class Privacy:
    """Erases and exports contacts, for one handler or operator."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def gdpr_delete(self, contact_id: str) -> None:
        """Erase a contact for good, and see that it is gone; one that is gone already is no error.

        Raises:
            CRMUnavailable: HubSpot took the order, but still finds the contact; ask again later.
        """
        exchange = self._access.exchange

        async def change() -> Done:
            path = exchange.paths.objects("contacts", "gdpr-delete")
            request = Request("POST", path, body={"objectId": contact_id})
            try:
                trace = (await exchange.calls.send(self._access.portal_id, request)).correlation_id
            except ObjectNotFound as gone:
                return Done(contact_id, gone.correlation_id)
            for wait_s in _CHECKS_AFTER_S:
                await asyncio.sleep(wait_s)
                if not await self._is_there(contact_id):
                    return Done(contact_id, trace)
            raise CRMUnavailable(correlation_id=trace)

        await self._access.write("privacy.delete", "contact", contact_id, {}, change)

    async def export(self, contact_id: str) -> tuple[Record, dict[str, tuple[str, ...]]]:
        """Return the contact with the declared properties, and the ids of what is kept with it, by type."""
        self._access.require("privacy.export")
        contact = await Objects(self._access, "contacts").get(contact_id)
        lanes = [self._access.exchange.associations(self._access.portal_id, "contacts", kept) for kept in _KEPT_WITH]
        ids = await asyncio.gather(*(lane.join(contact_id, None) for lane in lanes))
        return contact, dict(zip(_KEPT_WITH, ids, strict=True))

    async def _is_there(self, contact_id: str) -> bool:
        try:
            await self._access.exchange.reads(self._access.portal_id, "contacts").get(contact_id, ("hs_object_id",))
        except ObjectNotFound:
            return False
        return True
