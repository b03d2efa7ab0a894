"""What the law asks for: erasing one person, and showing what is kept. Rule: a person goes by id or e-mail address.

Erasing one person, and seeing that it was done. Rule: erased means that neither a read nor a search finds them.

Source: HubSpot's docs, "Contacts guide" (gdpr-delete): an address that no contact has is put on a block list.

Everything that HubSpot keeps on one person, in one value. Rule: what could not be shown is named, with the reason.

Through merges: whatever id or address leads to the contact will do, and the former ids are asked for associations too.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Final

from spokes.core.errors import CRMUnavailable, ObjectNotFound, PermanentCRMError
from spokes.crm.access import HandlerAccess
from spokes.crm.batching.association_reads import AssociatedObject
from spokes.crm.object_types import singular
from spokes.crm.objects import fetch_property_names
from spokes.crm.records import Record, parse_record
from spokes.crm.results import WriteReceipt
from spokes.crm.search import search_body, where
from spokes.crm.transport.paced_client import ApiRequest
from spokes.crm.transport.response_json import elements, text_id

CHECK_DELAYS_S: Final = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)  # the search index follows within seconds


async def erase(access: HandlerAccess, person: str, check_delays_s: tuple[float, ...]) -> WriteReceipt:
    """Erase a contact, by id or e-mail address; one that is gone already is no error.

    Raises:
        CRMUnavailable: HubSpot took the order, but still finds the contact; ask again later.
    """
    by = "email" if "@" in person else ""
    contact_id = await find_person(access, person, by) or ("" if by else person)
    order = {"objectId": person, "idProperty": by} if by else {"objectId": person}
    path = access.queues.paths.objects("contacts", "gdpr-delete")
    try:
        trace = (await access.send(ApiRequest("POST", path, body=order))).correlation_id
    except ObjectNotFound as gone:
        return WriteReceipt(contact_id, gone.correlation_id)

    async def is_read() -> bool:
        return bool(
            await find_person(access, person, by) or (by and contact_id and await find_person(access, contact_id, ""))
        )

    checks = (is_read, lambda: _is_found_by_search(access, contact_id)) if contact_id else (is_read,)
    for check in checks:
        await _wait_until_gone(check, check_delays_s, trace)
    return WriteReceipt(contact_id, trace)


async def find_person(access: HandlerAccess, person: str, id_property: str) -> str | None:
    """Return the id under which a contact lives now, None where there is none."""
    lane = access.queues.reads(access.portal_id, "contacts", id_property)
    try:
        return text_id((await lane.get(person, ("hs_object_id",), access.priority)).get("id")) or None
    except ObjectNotFound:
        return None


async def _is_found_by_search(access: HandlerAccess, contact_id: str) -> bool:
    condition = where("hs_object_id").equals(contact_id)
    body = search_body(condition, text="", sort="", properties=("hs_object_id",), limit=1, after="0")
    path = access.queues.paths.objects("contacts", "search")
    return bool(elements((await access.send(ApiRequest("POST", path, body=body), "search")).body, "results"))


async def _wait_until_gone(check: Callable[[], Awaitable[bool]], after_s: tuple[float, ...], trace: str) -> None:
    for wait_s in after_s:
        await asyncio.sleep(wait_s)
        if not await check():
            return
    raise CRMUnavailable(correlation_id=trace)


ENGAGEMENT_TYPES: Final = ("notes", "tasks", "calls", "emails", "meetings")
_ASSOCIATED_TYPES: Final = ("companies", "deals", "tickets", *ENGAGEMENT_TYPES)
_FORMER_IDS_PROPERTY: Final = "hs_merged_object_ids"


@dataclass(frozen=True, slots=True)
class Export:
    """One person: the contact, the ids it had before merges, its engagements, and whom it is associated with.

    `engagements` and `associations` go by type. `withheld` says of a type why less than all is shown: HubSpot's
    refusal, or `declared_only` where its properties could not be listed and those that were declared stand for them.
    """

    contact: Record
    former_ids: tuple[str, ...]
    engagements: Mapping[str, tuple[Record, ...]]
    associations: Mapping[str, tuple[AssociatedObject, ...]]
    withheld: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, object]:
        """Return it ready for JSON."""
        return asdict(self)


async def export(access: HandlerAccess, person: str) -> Export:
    """Return everything on a contact, by id or e-mail address.

    Raises:
        ObjectNotFound: there is none.
        TransientCRMError: HubSpot cannot be asked now.
    """
    contact_id = await find_person(access, person, "email" if "@" in person else "")
    if contact_id is None:
        raise ObjectNotFound(status=404)
    withheld: dict[str, str] = {}
    contact = (await _read_all_properties(access, "contacts", (contact_id,), withheld))[0]
    former = tuple(filter(None, contact.properties.get(_FORMER_IDS_PROPERTY, "").split(";")))
    lists = await asyncio.gather(
        *(_associated_objects(access, (contact_id, *former), to_type, withheld) for to_type in _ASSOCIATED_TYPES)
    )
    associations = {to_type: ends for to_type, ends in zip(_ASSOCIATED_TYPES, lists, strict=True) if ends}
    engagements: dict[str, tuple[Record, ...]] = {}
    for service in (service for service in ENGAGEMENT_TYPES if service in associations):
        try:
            ids = tuple(end.id for end in associations[service])
            engagements[service] = await _read_all_properties(access, service, ids, withheld)
        except PermanentCRMError as refused:
            withheld[service] = refused.reason
    return Export(contact, former, engagements, associations, withheld)


async def _read_all_properties(
    access: HandlerAccess, service: str, object_ids: tuple[str, ...], withheld: dict[str, str]
) -> tuple[Record, ...]:
    names = await _property_names(access, service, withheld)
    lane = access.queues.reads(access.portal_id, service)
    items = await asyncio.gather(*(lane.get(i, names, access.priority) for i in object_ids))
    return tuple(parse_record(item, singular(service), names) for item in items)


async def _property_names(access: HandlerAccess, service: str, withheld: dict[str, str]) -> tuple[str, ...]:
    names = await fetch_property_names(access, service)
    if names is None:
        withheld[service] = "declared_only"
        names = access.reads.get(service, ())
    return tuple(dict.fromkeys((*names, _FORMER_IDS_PROPERTY) if service == "contacts" else names))


async def _associated_objects(
    access: HandlerAccess, contact_ids: tuple[str, ...], to_type: str, withheld: dict[str, str]
) -> tuple[AssociatedObject, ...]:
    lane = access.queues.associations(access.portal_id, "contacts", to_type)
    try:
        lists = await asyncio.gather(*(lane.submit(i, None, access.priority) for i in contact_ids))
    except PermanentCRMError as refused:
        withheld[to_type] = refused.reason
        return ()
    return tuple({end.id: end for ends in lists for end in ends}.values())


__all__ = ["Export", "Privacy"]


class Privacy:
    """Erases and exports contacts, for one handler or operator."""

    def __init__(self, access: HandlerAccess, *, check_delays_s: tuple[float, ...] = CHECK_DELAYS_S) -> None:
        """Let an erasure be checked at these waits, in seconds, before it counts as not done."""
        self._access = access
        self._check_delays_s = check_delays_s

    async def gdpr_delete(self, person: str) -> None:
        """Erase a contact for good, and see that neither a read nor a search finds it; gone already is no error.

        By e-mail address it stays out: HubSpot blocks an address that no contact has.

        Raises:
            CRMUnavailable: HubSpot took the order, but still finds the contact; ask again later.
        """
        known_id = "" if "@" in person else person

        async def change() -> WriteReceipt:
            return await erase(self._access, person, self._check_delays_s)

        await self._access.perform("privacy.delete", "contact", known_id, {}, change)

    async def export(self, person: str) -> Export:
        """Return everything that HubSpot keeps on a contact: all properties, engagements and associations.

        Raises:
            ObjectNotFound: there is none.
        """
        self._access.check_declared("privacy.export")
        return await export(self._access, person)
