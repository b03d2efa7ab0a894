"""What the law asks for: erasing one person, and showing what is kept. Rule: a person goes by id or e-mail address."""

from spokes.crm.access import Access
from spokes.crm.erasure import CHECKS_AFTER_S, erase
from spokes.crm.export import Export, export
from spokes.crm.results import Done

__all__ = ["Export", "Privacy"]


class Privacy:
    """Erases and exports contacts, for one handler or operator."""

    def __init__(self, access: Access, *, checks_after_s: tuple[float, ...] = CHECKS_AFTER_S) -> None:
        """Let an erasure be checked at these waits, in seconds, before it counts as not done."""
        self._access = access
        self._checks_after_s = checks_after_s

    async def gdpr_delete(self, person: str) -> None:
        """Erase a contact for good, and see that neither a read nor a search finds it; gone already is no error.

        By e-mail address it stays out: HubSpot blocks an address that no contact has.

        Raises:
            CRMUnavailable: HubSpot took the order, but still finds the contact; ask again later.
        """
        known_id = "" if "@" in person else person

        async def change() -> Done:
            return await erase(self._access, person, self._checks_after_s)

        await self._access.write("privacy.delete", "contact", known_id, {}, change)

    async def export(self, person: str) -> Export:
        """Return everything that HubSpot keeps on a contact: all properties, engagements and associations.

        Raises:
            ObjectNotFound: there is none.
        """
        self._access.require("privacy.export")
        return await export(self._access, person)
