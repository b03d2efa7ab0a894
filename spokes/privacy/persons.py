"""Resolve a person by id or e-mail address, through merges, and collect all data held on them. Only reads."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.rows import Row, to_json
from spokes.audit.sql.queries import Filters, find_records
from spokes.core.errors import ObjectNotFound
from spokes.crm.access import UnleasedContext, WriteRecord
from spokes.privacy.redis_data import DataSubject, find_data, with_merged_ids
from spokes.queue.quarantine import Quarantine

if TYPE_CHECKING:
    from spokes.crm.services import CRM, Services

CONTACT: Final = "contact"
_MERGED_IDS_PROPERTY: Final = "hs_merged_object_ids"
_GRANTS: Final = frozenset({"privacy.delete", "privacy.export"})


@dataclass(frozen=True, slots=True)
class Person:
    """A contact of one portal: its current id, and as `subject` every id it has had."""

    portal_id: int
    id: str
    subject: DataSubject


class Persons:
    """Finds contacts in HubSpot, in Redis and in the audit; the caller closes the three connections."""

    def __init__(self, redis: Redis, engine: AsyncEngine, crm: "CRM", quarantine: Quarantine) -> None:
        self._redis = redis
        self._quarantine = quarantine
        self._engine = engine
        self._crm = crm

    async def resolve(self, portal_id: int, reference: str) -> Person:
        """Return the contact with an id or e-mail address; an id that HubSpot does not find is used as it is.

        Raises:
            ObjectNotFound: HubSpot has no contact with that e-mail address.
            CRMError: HubSpot does not answer.
        """
        contacts = self.services(portal_id).contacts
        is_email = "@" in reference
        try:
            contact = await (contacts.get_by("email", reference) if is_email else contacts.get(reference))
        except ObjectNotFound:
            if is_email:
                raise
            current_id, ids = reference, {reference}
        else:
            current_id, ids = contact.id, {contact.id, *filter(None, contact[_MERGED_IDS_PROPERTY].split(";"))}
            ids |= set() if is_email else {reference}
        all_ids = await with_merged_ids(self._redis, portal_id, CONTACT, ids)
        return Person(portal_id, current_id, DataSubject(portal_id, CONTACT, all_ids))

    async def export(self, person: Person) -> dict[str, object]:
        """Return all data on the contact that HubSpot and we hold, ready for JSON."""
        try:
            at_hubspot = (await self.services(person.portal_id).privacy.export(person.id)).as_dict()
        except ObjectNotFound:
            at_hubspot = None
        data = await find_data(self._redis, person.subject, self._quarantine)
        deliveries = (*data.deliveries, *data.in_default_queue)
        entries = [entry for delivery in deliveries for entry in person.subject.matching_entries(delivery)]
        records = [to_json(row) async for row in self.audit_rows(person.subject)]
        return {
            "portal_id": person.portal_id,
            "contact_ids": sorted(person.subject.ids),
            "hubspot": at_hubspot,
            "queued_events": [entry.raw for entry in entries],
            "dead_letters": [{"reason": letter.reason, "event": letter.entry.raw} for letter in data.dead_letters],
            "ledgers": sorted(name.decode() for name in data.ledger_keys),
            "unreadable_jobs": len(data.unreadable_jobs),
            "quarantined": len(data.quarantined),
            "audit_records": records,
        }

    async def remaining(self, subject: DataSubject) -> str:
        """Return the places that still hold data on a contact, separated by commas; empty if none does."""
        data = await find_data(self._redis, subject, self._quarantine)
        data_by_place = {
            "queue": data.deliveries,
            "default_queue": data.in_default_queue,
            "dead_letters": data.dead_letters,
            "ledgers": data.ledger_keys,
            "unreadable": data.unreadable_jobs,
            "quarantined": data.quarantined,
            "audit": [row async for row in self.audit_rows(subject) if row["object_hash"]],
        }
        return ", ".join(place for place, items in data_by_place.items() if items)

    async def audit_rows(self, subject: DataSubject) -> AsyncIterator[Row]:
        """Yield the archived audit records that contain one of the contact's ids."""
        for object_id in sorted(subject.ids):
            async for row in find_records(
                self._engine, Filters(portal_id=subject.portal_id, object_type=CONTACT, object_id=object_id)
            ):
                yield row

    def services(self, portal_id: int, writes: list[WriteRecord] | None = None) -> "Services":
        """Return HubSpot's services for contacts and privacy; each write is appended to `writes`."""
        reads = {"contacts": ("email", _MERGED_IDS_PROPERTY)}
        return self._crm.handler_services(portal_id, CONTACT, reads, _GRANTS, UnleasedContext(writes))
