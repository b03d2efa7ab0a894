"""Erasing one person, and seeing that it was done. Rule: erased means that neither a read nor a search finds them.

Source: HubSpot's docs, "Contacts guide" (gdpr-delete): an address that no contact has is put on a block list.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from spokes.core.errors import CRMUnavailable, ObjectNotFound
from spokes.crm.access import Access
from spokes.crm.conditions import where
from spokes.crm.results import Done
from spokes.crm.search import query
from spokes.crm.transport.paced_client import Request
from spokes.crm.transport.response_json import elements, text_id

CHECKS_AFTER_S: Final = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)  # the search index follows within seconds


async def erase(access: Access, person: str, checks_after_s: tuple[float, ...]) -> Done:
    """Erase a contact, by id or e-mail address; one that is gone already is no error.

    Raises:
        CRMUnavailable: HubSpot took the order, but still finds the contact; ask again later.
    """
    by = "email" if "@" in person else ""
    contact_id = await find(access, person, by) or ("" if by else person)
    order = {"objectId": person, "idProperty": by} if by else {"objectId": person}
    path = access.exchange.paths.objects("contacts", "gdpr-delete")
    try:
        trace = (await access.send(Request("POST", path, body=order))).correlation_id
    except ObjectNotFound as gone:
        return Done(contact_id, gone.correlation_id)

    async def is_read() -> bool:
        return bool(await find(access, person, by) or (by and contact_id and await find(access, contact_id, "")))

    checks = (is_read, lambda: _is_searched(access, contact_id)) if contact_id else (is_read,)
    for check in checks:
        await _until_gone(check, checks_after_s, trace)
    return Done(contact_id, trace)


async def find(access: Access, person: str, by: str) -> str | None:
    """Return the id under which a contact lives now, None where there is none."""
    lane = access.exchange.reads(access.portal_id, "contacts", by)
    try:
        return text_id((await lane.get(person, ("hs_object_id",), access.priority)).get("id")) or None
    except ObjectNotFound:
        return None


async def _is_searched(access: Access, contact_id: str) -> bool:
    condition = where("hs_object_id").equals(contact_id)
    body = query(condition, text="", sort="", properties=("hs_object_id",), limit=1, after="0")
    path = access.exchange.paths.objects("contacts", "search")
    return bool(elements((await access.send(Request("POST", path, body=body), "search")).body, "results"))


async def _until_gone(check: Callable[[], Awaitable[bool]], after_s: tuple[float, ...], trace: str) -> None:
    for wait_s in after_s:
        await asyncio.sleep(wait_s)
        if not await check():
            return
    raise CRMUnavailable(correlation_id=trace)
