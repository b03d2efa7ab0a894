"""GDPR deletion of one contact, verified, and export of everything HubSpot has on one contact.

A contact is named by its id or by an e-mail address; ids and addresses of merged records work too.
Source: HubSpot's docs, "Contacts guide" (gdpr-delete): an address that no contact has is added to a block list.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Final

from spokes.core.errors import CRMUnavailable, ObjectNotFound, PermanentCRMError
from spokes.crm.access import HandlerAccess, Write
from spokes.crm.batching.association_reads import AssociatedObject
from spokes.crm.object_types import singular
from spokes.crm.objects import fetch_property_names
from spokes.crm.records import Record, parse_record
from spokes.crm.results import WriteReceipt
from spokes.crm.search import search_body, where
from spokes.crm.transport.paced_client import ApiRequest, SendContext
from spokes.crm.transport.response_json import elements, text_id
from spokes.crm.values.object_ids import read_id

__all__ = ["Export", "Privacy"]

CHECK_DELAYS_S: Final = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)  # the search index follows a deletion within seconds
ENGAGEMENT_TYPES: Final = ("notes", "tasks", "calls", "emails", "meetings")
_ASSOCIATED_TYPES: Final = ("companies", "deals", "tickets", *ENGAGEMENT_TYPES)
_FORMER_IDS_PROPERTY: Final = "hs_merged_object_ids"


class Privacy:
    """Deletes and exports contacts, for one handler or operator."""

    def __init__(self, access: HandlerAccess, *, check_delays_s: tuple[float, ...] = CHECK_DELAYS_S) -> None:
        """Check a deletion after each of these delays, in seconds, before it counts as failed."""
        self._access = access
        self._check_delays_s = check_delays_s

    async def gdpr_delete(self, person: str) -> None:
        """Delete a contact permanently, and check that neither a read nor a search finds it. No error if it is gone.

        By e-mail address, HubSpot also blocks the address if no contact has it.

        Raises:
            CRMUnavailable: HubSpot accepted the deletion, but still finds the contact; try again later.
        """
        self._access.check_declared("privacy.delete")
        person = read_id(person)
        write = Write("privacy.delete", "contact", "" if "@" in person else person)
        await self._access.perform(write, _Deleter(self._access), person, self._check_delays_s)

    async def export(self, person: str) -> "Export":
        """Return everything that HubSpot has on a contact: all properties, engagements and associations.

        Raises:
            ObjectNotFound: there is no such contact.
        """
        self._access.check_declared("privacy.export")
        return await export(self._access, read_id(person))


class _Deleter:
    """Deletes contacts, as a `Writer` whose payload is the delays of the checks."""

    def __init__(self, access: HandlerAccess) -> None:
        self._access = access

    async def submit(self, input_id: str, payload: tuple[float, ...], context: SendContext) -> WriteReceipt:
        del context  # `HandlerAccess.send` asks it before each call
        return await erase(self._access, input_id, payload)


async def erase(access: HandlerAccess, person: str, check_delays_s: tuple[float, ...]) -> WriteReceipt:
    """Delete a contact by id or e-mail address; no error if it is gone.

    Raises:
        CRMUnavailable: HubSpot accepted the deletion, but still finds the contact; try again later.
    """
    id_property = "email" if "@" in person else ""
    contact_id = await find_person(access, person, id_property) or ("" if id_property else person)
    body = {"objectId": person, "idProperty": id_property} if id_property else {"objectId": person}
    path = access.queues.paths.objects("contacts", "gdpr-delete")
    try:
        correlation_id = (await access.send(ApiRequest("POST", path, body=body))).correlation_id
    except ObjectNotFound as error:
        return WriteReceipt(contact_id, error.correlation_id)

    async def is_readable() -> bool:
        if await find_person(access, person, id_property):
            return True
        return bool(id_property and contact_id and await find_person(access, contact_id, ""))

    await _wait_until_gone(is_readable, check_delays_s, correlation_id)
    if contact_id:
        await _wait_until_gone(lambda: _is_found_by_search(access, contact_id), check_delays_s, correlation_id)
    return WriteReceipt(contact_id, correlation_id)


async def find_person(access: HandlerAccess, person: str, id_property: str) -> str | None:
    """Return the present id of a contact, None if there is no such contact."""
    queue = access.queues.reads(access.portal_id, "contacts", id_property)
    try:
        item = await queue.get(person, ("hs_object_id",), access.context.priority)
    except ObjectNotFound:
        return None
    return text_id(item.get("id")) or None


async def _is_found_by_search(access: HandlerAccess, contact_id: str) -> bool:
    condition = where("hs_object_id").equals(contact_id)
    body = search_body(condition, text="", sort="", properties=("hs_object_id",), limit=1, after="0")
    path = access.queues.paths.objects("contacts", "search")
    response = await access.send(ApiRequest("POST", path, body=body), "search")
    return bool(elements(response.body, "results"))


async def _wait_until_gone(
    is_there: Callable[[], Awaitable[bool]], check_delays_s: tuple[float, ...], correlation_id: str
) -> None:
    for delay_s in check_delays_s:
        await asyncio.sleep(delay_s)
        if not await is_there():
            return
    raise CRMUnavailable(correlation_id=correlation_id)


@dataclass(frozen=True, slots=True)
class Export:
    """Everything on one contact: its record, the ids it had before merges, its engagements and associations.

    `engagements` and `associations` by type. `withheld` holds, by type, why not everything is shown: HubSpot's refusal,
    or `declared_only` if its properties could not be listed and only the declared ones were read.
    """

    contact: Record
    former_ids: tuple[str, ...]
    engagements: Mapping[str, tuple[Record, ...]]
    associations: Mapping[str, tuple[AssociatedObject, ...]]
    withheld: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, object]:
        """Return it as JSON types."""
        return asdict(self)


async def export(access: HandlerAccess, person: str) -> Export:
    """Return everything on a contact, by id or e-mail address. Associations of its former ids are read too.

    Raises:
        ObjectNotFound: there is no such contact.
        TransientCRMError: HubSpot cannot answer now.
    """
    contact_id = await find_person(access, person, "email" if "@" in person else "")
    if contact_id is None:
        raise ObjectNotFound(status=404)
    withheld: dict[str, str] = {}
    contact = (await _read_all_properties(access, "contacts", (contact_id,), withheld))[0]
    former_ids = tuple(filter(None, contact.properties.get(_FORMER_IDS_PROPERTY, "").split(";")))
    contact_ids = (contact_id, *former_ids)
    lists = await asyncio.gather(
        *(_associated_objects(access, contact_ids, to_type, withheld) for to_type in _ASSOCIATED_TYPES)
    )
    associations = {to_type: objects for to_type, objects in zip(_ASSOCIATED_TYPES, lists, strict=True) if objects}
    engagements: dict[str, tuple[Record, ...]] = {}
    for service in (service for service in ENGAGEMENT_TYPES if service in associations):
        object_ids = tuple(associated.id for associated in associations[service])
        try:
            engagements[service] = await _read_all_properties(access, service, object_ids, withheld)
        except PermanentCRMError as error:
            withheld[service] = error.reason
    return Export(contact, former_ids, engagements, associations, withheld)


async def _read_all_properties(
    access: HandlerAccess, service: str, object_ids: tuple[str, ...], withheld: dict[str, str]
) -> tuple[Record, ...]:
    names = await _property_names(access, service, withheld)
    queue = access.queues.reads(access.portal_id, service)
    items = await asyncio.gather(*(queue.get(i, names, access.context.priority) for i in object_ids))
    return tuple(parse_record(item, singular(service), names) for item in items)


async def _property_names(access: HandlerAccess, service: str, withheld: dict[str, str]) -> tuple[str, ...]:
    names = await fetch_property_names(access, service)
    if names is None:
        withheld[service] = "declared_only"
        names = access.grants.reads.get(service, ())
    return tuple(dict.fromkeys((*names, _FORMER_IDS_PROPERTY) if service == "contacts" else names))


async def _associated_objects(
    access: HandlerAccess, contact_ids: tuple[str, ...], to_type: str, withheld: dict[str, str]
) -> tuple[AssociatedObject, ...]:
    queue = access.queues.associations(access.portal_id, "contacts", to_type)
    try:
        lists = await asyncio.gather(*(queue.get(i, access.context.priority) for i in contact_ids))
    except PermanentCRMError as error:
        withheld[to_type] = error.reason
        return ()
    return tuple({associated.id: associated for objects in lists for associated in objects}.values())
