"""Everything that HubSpot keeps on one person, in one value. Rule: what could not be shown is named, with the reason.

Through merges: whatever id or address leads to the contact will do, and the former ids are asked for associations too.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Final

from spokes.core.errors import ObjectNotFound, PermanentCRMError
from spokes.crm.access import Access
from spokes.crm.batching.association_reads import Associated
from spokes.crm.erasure import find
from spokes.crm.object_types import singular
from spokes.crm.portal_properties import all_properties
from spokes.crm.records import Record, record_of

ENGAGEMENTS: Final = ("notes", "tasks", "calls", "emails", "meetings")
_ASSOCIATED: Final = ("companies", "deals", "tickets", *ENGAGEMENTS)
_FORMER_IDS: Final = "hs_merged_object_ids"


@dataclass(frozen=True, slots=True)
class Export:
    """One person: the contact, the ids it had before merges, its engagements, and whom it is associated with.

    `engagements` and `associations` go by type. `withheld` says of a type why less than all is shown: HubSpot's
    refusal, or `declared_only` where its properties could not be listed and those that were declared stand for them.
    """

    contact: Record
    former_ids: tuple[str, ...]
    engagements: Mapping[str, tuple[Record, ...]]
    associations: Mapping[str, tuple[Associated, ...]]
    withheld: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, object]:
        """Return it ready for JSON."""
        return asdict(self)


async def export(access: Access, person: str) -> Export:
    """Return everything on a contact, by id or e-mail address.

    Raises:
        ObjectNotFound: there is none.
        TransientCRMError: HubSpot cannot be asked now.
    """
    contact_id = await find(access, person, "email" if "@" in person else "")
    if contact_id is None:
        raise ObjectNotFound(status=404)
    withheld: dict[str, str] = {}
    contact = (await _whole(access, "contacts", (contact_id,), withheld))[0]
    former = tuple(filter(None, contact.properties.get(_FORMER_IDS, "").split(";")))
    lists = await asyncio.gather(*(_ends(access, (contact_id, *former), to_type, withheld) for to_type in _ASSOCIATED))
    associations = {to_type: ends for to_type, ends in zip(_ASSOCIATED, lists, strict=True) if ends}
    engagements: dict[str, tuple[Record, ...]] = {}
    for service in (service for service in ENGAGEMENTS if service in associations):
        try:
            ids = tuple(end.id for end in associations[service])
            engagements[service] = await _whole(access, service, ids, withheld)
        except PermanentCRMError as refused:
            withheld[service] = refused.reason
    return Export(contact, former, engagements, associations, withheld)


async def _whole(
    access: Access, service: str, object_ids: tuple[str, ...], withheld: dict[str, str]
) -> tuple[Record, ...]:
    names = await _names(access, service, withheld)
    lane = access.exchange.reads(access.portal_id, service)
    items = await asyncio.gather(*(lane.get(i, names, access.priority) for i in object_ids))
    return tuple(record_of(item, singular(service), names) for item in items)


async def _names(access: Access, service: str, withheld: dict[str, str]) -> tuple[str, ...]:
    names = await all_properties(access, service)
    if names is None:
        withheld[service] = "declared_only"
        names = access.reads.get(service, ())
    return tuple(dict.fromkeys((*names, _FORMER_IDS) if service == "contacts" else names))


async def _ends(
    access: Access, contact_ids: tuple[str, ...], to_type: str, withheld: dict[str, str]
) -> tuple[Associated, ...]:
    lane = access.exchange.associations(access.portal_id, "contacts", to_type)
    try:
        lists = await asyncio.gather(*(lane.join(i, None, access.priority) for i in contact_ids))
    except PermanentCRMError as refused:
        withheld[to_type] = refused.reason
        return ()
    return tuple({end.id: end for ends in lists for end in ends}.values())
