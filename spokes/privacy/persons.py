"""A person, wherever they are held: found by id or e-mail address, through merges. Rule: it only reads."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.rows import Row, to_json
from spokes.audit.sql.queries import Filters, find_records
from spokes.core.errors import ObjectNotFound
from spokes.crm.access import WriteRecord
from spokes.privacy import redis_data as holdings
from spokes.privacy.redis_data import DataSubject

if TYPE_CHECKING:
    from spokes.crm.services import CRM, Services

CONTACT: Final = "contact"
_MERGED_IDS_PROPERTY: Final = "hs_merged_object_ids"
_GRANTS: Final = frozenset({"privacy.delete", "privacy.export"})


@dataclass(frozen=True, slots=True)
class Person:
    """A contact of one portal: the id it lives under, and all that lead to it."""

    portal_id: int
    id: str
    subject: DataSubject


class Persons:
    """Looks for contacts in HubSpot, in Redis and in the audit; all three stay the caller's to close."""

    def __init__(self, redis: Redis, engine: AsyncEngine, crm: "CRM") -> None:
        self._redis = redis
        self._engine = engine
        self._crm = crm

    async def resolve(self, portal_id: int, reference: str) -> Person:
        """Return the contact that an id or an e-mail address leads to; of an id that HubSpot has lost, the id itself.

        Raises:
            ObjectNotFound: HubSpot knows no contact with that address.
            CRMError: HubSpot cannot be asked.
        """
        contacts = self.services(portal_id).contacts
        try:
            found = await (contacts.get_by("email", reference) if "@" in reference else contacts.get(reference))
        except ObjectNotFound:
            if "@" in reference:
                raise
            own_id, told = reference, {reference}
        else:
            own_id, told = found.id, {found.id, *filter(None, found[_MERGED_IDS_PROPERTY].split(";"))}
            told |= set() if "@" in reference else {reference}
        ids = await holdings.with_merged_ids(self._redis, portal_id, CONTACT, told)
        return Person(portal_id, own_id, DataSubject(portal_id, CONTACT, ids))

    async def export(self, person: Person) -> dict[str, object]:
        """Return all that HubSpot and we hold on the contact, ready for JSON."""
        try:
            at_hubspot = (await self.services(person.portal_id).privacy.export(person.id)).as_dict()
        except ObjectNotFound:
            at_hubspot = None
        held = await holdings.find_data(self._redis, person.subject)
        entries = [entry for delivery in held.deliveries for entry in person.subject.matching_entries(delivery)]
        records = [to_json(row) async for row in self.audit_rows(person.subject)]
        return {
            "portal_id": person.portal_id,
            "contact_ids": sorted(person.subject.ids),
            "hubspot": at_hubspot,
            "queued_events": [entry.raw for entry in entries],
            "dead_letters": [{"reason": letter.reason, "event": letter.entry.raw} for letter in held.dead_letters],
            "ledgers": sorted(name.decode() for name in held.ledger_keys),
            "unreadable_jobs": len(held.unreadable_jobs),
            "audit_records": records,
        }

    async def remaining(self, subject: DataSubject) -> str:
        """Return where something of a contact is left in Redis or in the audit, in words; empty when it is nowhere."""
        held = await holdings.find_data(self._redis, subject)
        found = {
            "queue": held.deliveries,
            "dead_letters": held.dead_letters,
            "ledgers": held.ledger_keys,
            "unreadable": held.unreadable_jobs,
            "audit": [row async for row in self.audit_rows(subject) if row["object_hash"]],
        }
        return ", ".join(name for name, things in found.items() if things)

    async def audit_rows(self, subject: DataSubject) -> AsyncIterator[Row]:
        """Go through the audit records that name the contact."""
        for object_id in sorted(subject.ids):
            async for row in find_records(
                self._engine, Filters(portal_id=subject.portal_id, object_type=CONTACT, object_id=object_id)
            ):
                yield row

    def services(self, portal_id: int, writes: list[WriteRecord] | None = None) -> "Services":
        """Return what we may do with contacts in HubSpot; `writes` takes what was done."""
        reads = {"contacts": ("email", _MERGED_IDS_PROPERTY)}
        return self._crm.handler_services(portal_id, CONTACT, reads, _GRANTS, ([] if writes is None else writes).append)
