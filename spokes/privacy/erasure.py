"""Process requests of data subjects: erase a contact in all stores, and export the data held on it.

Each completed step of an erasure is saved and may be repeated. A request is done once no data on the contact is left.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Final

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.archiver import Archiver
from spokes.audit.incidents.incident_store import remove_ids
from spokes.audit.object_hashes import object_hash, object_hash_key
from spokes.audit.records import Action, AuditRecord
from spokes.audit.stream import append_now
from spokes.core.errors import ErasureIncomplete, SpokesError
from spokes.core.master_key import load_master_key
from spokes.core.settings import Settings
from spokes.crm.access import WriteRecord
from spokes.privacy.persons import CONTACT, Person, Persons
from spokes.privacy.redis_data import DataSubject
from spokes.privacy.redis_purge import purge_subject
from spokes.privacy.requests import ErasureRequest, Law, RequestState, add_request, load_requests, save_request
from spokes.privacy.stored_files import rewrite_files
from spokes.queue.quarantine import Quarantine

if TYPE_CHECKING:
    from spokes.crm.services import CRM

_BUSY_WAITS_S: Final = (0.5, 1.0, 2.0, 4.0)  # until workers have finished the deliveries they are running


class Erasures:
    """Erasure requests and exports, for an operator or the workers' periodic job.

    The caller closes `crm`, `redis` and `engine`. `actor`, `address` and `reason` go into the audit records: who acts,
    from which network address and why.
    """

    def __init__(
        self,
        settings: Settings,
        redis: Redis,
        engine: AsyncEngine,
        crm: "CRM",
        *,
        actor: str,
        address: str = "",
        reason: str = "",
    ) -> None:
        self._settings = settings
        self._redis = redis
        self._engine = engine
        self._hash_key = object_hash_key(load_master_key(settings))
        self._quarantine = Quarantine.from_settings(redis, settings)
        self._token = {"token_fingerprint": crm.token_fingerprint} if crm.token_fingerprint else {}
        self._persons = Persons(redis, engine, crm, self._quarantine)
        self._actor = actor
        self._address = address
        self._reason = reason

    async def resolve(self, portal_id: int, reference: str) -> Person:
        """See Persons.resolve."""
        return await self._persons.resolve(portal_id, reference)

    async def export(self, person: Person) -> dict[str, object]:
        """See Persons.export; the export is recorded in the audit."""
        document = await self._persons.export(person)
        await append_now(self._redis, self._audit_record(person, Action.PRIVACY_EXPORTED, self._token))
        return document

    async def create_request(self, person: Person, law: Law) -> ErasureRequest:
        """Store a request to erase the contact, and record it in the audit."""
        ids = (person.id, *sorted(person.subject.ids - {person.id}))
        request = ErasureRequest(
            portal_id=person.portal_id,
            object_hash=object_hash(self._hash_key, person.portal_id, CONTACT, person.id),
            object_ids=ids,
            kind=law,
            requested_by=self._actor,
        )
        await add_request(self._engine, request)
        detail = {"request": request.id, "law": law.value, "due_at": request.due_at}
        await append_now(self._redis, self._audit_record(person, Action.PRIVACY_REQUESTED, detail))
        return request

    async def erase(
        self, request: ErasureRequest, on_progress: Callable[[str], None] = lambda _: None
    ) -> ErasureRequest:
        """Carry out the remaining steps of a request, with a call of `on_progress` for each; return it as done.

        Raises:
            ErasureIncomplete: data of the person still exists.
            CRMError, AuditUnavailable, RedisError: a service does not answer; the request stays open.
        """
        subject = DataSubject(request.portal_id, CONTACT, frozenset(request.object_ids))
        if "hubspot" not in request.steps:
            request = await self._save_step(request, "hubspot", await self._erase_at_hubspot(request), on_progress)
        request = await self._save_step(request, "redis", await self._erase_in_redis(subject), on_progress)
        request = await self._save_step(request, "audit", await self._erase_in_audit(subject), on_progress)
        if remaining := await self._persons.remaining(subject):
            raise ErasureIncomplete(remaining)
        request = request.with_step("checked", True).as_done()  # noqa: FBT003 - the result of a step
        await save_request(self._engine, request)
        # Now that the request holds no ids either. What remains is part of its result.
        remains = await rewrite_files(self._redis, self._engine)
        return await self._save_step(request, "files", {"remains": remains}, on_progress)

    async def resume(self, on_progress: Callable[[str], None] = lambda _: None) -> tuple[int, int]:
        """Continue all open requests; return how many are done and how many are not."""
        done = failed = 0
        for request in await load_requests(self._engine, state=RequestState.OPEN):
            try:
                await self.erase(request, on_progress)
                done += 1
            except SpokesError as error:
                on_progress(f"{request.id}: {error.reason}")
                failed += 1
        return done, failed

    async def _erase_at_hubspot(self, request: ErasureRequest) -> Mapping[str, object]:
        writes: list[WriteRecord] = []
        try:
            await self._persons.services(request.portal_id, writes).privacy.gdpr_delete(request.object_ids[0])
        finally:
            for write in writes:
                await append_now(self._redis, _write_record(request.portal_id, self._actor, write, self._token))
        return {"correlation_id": writes[-1].correlation_id if writes else ""}

    async def _erase_in_redis(self, subject: DataSubject) -> Mapping[str, object]:
        total = await purge_subject(self._redis, subject, self._quarantine, self._hash_key, actor=self._actor)
        for wait_s in _BUSY_WAITS_S:
            if not total.busy:
                break
            await asyncio.sleep(wait_s)
            more = await purge_subject(self._redis, subject, self._quarantine, self._hash_key, actor=self._actor)
            counts = {name: count + asdict(more)[name] for name, count in asdict(total).items() if name != "busy"}
            total = replace(total, **counts, busy=more.busy)
        return asdict(total)

    async def _erase_in_audit(self, subject: DataSubject) -> Mapping[str, object]:
        """Delete the ids from the archive: the archiver does it when it archives the records of the erasure."""
        count = len([row async for row in self._persons.audit_rows(subject)])
        await Archiver(
            self._redis, self._engine, load_master_key(self._settings), checkpoint_every=self._settings.checkpoint_every
        ).drain()
        return {"records": count, "incident_texts": await remove_ids(self._engine, subject.ids)}

    async def _save_step(
        self, request: ErasureRequest, step: str, result: Mapping[str, object], on_progress: Callable[[str], None]
    ) -> ErasureRequest:
        request = request.with_step(step, result)
        await save_request(self._engine, request)
        counts = ", ".join(f"{name} {value}" for name, value in result.items() if not isinstance(value, list))
        on_progress(f"{step}: {counts or 'done'}")
        return request

    def _audit_record(self, person: Person, action: Action, detail: Mapping[str, object]) -> AuditRecord:
        detail = {**detail, **({"address": self._address} if self._address else {})}
        return AuditRecord(
            action=action, portal_id=person.portal_id, object_type=CONTACT, object_id=person.id, actor=self._actor,
            reason=self._reason, detail=detail,
        )  # fmt: skip


def _write_record(portal_id: int, actor: str, write: WriteRecord, token: Mapping[str, str]) -> AuditRecord:
    return AuditRecord(
        action=Action.CRM_WRITE,
        portal_id=portal_id,
        reason=write.reason,
        object_type=write.object_type,
        object_id=write.object_id,
        actor=actor,
        correlation_id=write.correlation_id,
        detail={"method": write.method, "properties": list(write.properties), "ok": write.ok, **token},
    )
