"""`Spokes`, the fixture of handlers' tests: deliver an event as HubSpot does, and see what the handlers did."""

from collections.abc import Coroutine
from typing import Any, TypeVar

import orjson

from spokes.simulator.changes import ChangeKind, ChangeSource, Merge
from spokes.simulator.crm.merging import properties_moved
from spokes.testing.background_loop import BackgroundLoop
from spokes.testing.deployment import KitDeployment
from spokes.testing.event_factory import Dialect, EventFactory, EventSpec, split_event_type
from spokes.testing.hubspot import SimulatedHubSpot, SimulatedRecord
from spokes.testing.log_capture import LogCapture
from spokes.testing.run import Run, SimulatedRequest

_Result = TypeVar("_Result")


class Spokes:
    """A simulated HubSpot, the receiver and a worker with your handlers, for one test.

    `hubspot` is the HubSpot account. Each `deliver` sends one signed request to the receiver and runs the worker until
    the event has its final outcome: the clock advances by itself to the next retry, so no test waits.
    """

    def __init__(self, deployment: KitDeployment, loop: BackgroundLoop, logs: LogCapture) -> None:
        self._deployment = deployment
        self._loop = loop
        self._logs = logs
        portal = deployment.simulator.portal
        self.hubspot = SimulatedHubSpot(portal, loop, deployment.clock.now_ms)
        self._factory = EventFactory(portal.config)

    async def deliver(
        self,
        event_type: str,
        record: SimulatedRecord,
        *,
        property: str | None = None,  # noqa: A002 - HubSpot's own word
        value: str | None = None,
        to: SimulatedRecord | None = None,
        dialect: Dialect | None = None,
        source: str = "CRM_UI",
        **fields: object,
    ) -> Run:
        """Deliver one event about a record, and run the worker until the event has its final outcome.

        HubSpot is brought into the state that the event reports: a deletion archives the record, a restore restores
        it, a privacy deletion erases it, an association change associates it, and `value` is written first.

        Args:
            event_type: such as `contact.creation`; `object.creation` and custom types use HubSpot's generic dialect.
            record: that the event is about.
            property: the changed property, for `propertyChange`.
            value: its new value; without, the event reports the value that the record has.
            to: the record at the other end, for `associationChange`.
            dialect: classic or generic; by default classic where HubSpot has it for the object type.
            source: HubSpot's `changeSource`, such as IMPORT or INTEGRATION.
            fields: fields of the event's JSON to replace; None removes one.

        Raises:
            ValueError: HubSpot sends no such event.
            NotAdmitted: the receiver refused the request.
        """
        spec = await self._prepare(event_type, record, property_name=property, value=value, to=to, change_source=source)
        element = self._element(spec, "generic" if event_type.startswith("object.") else dialect, fields)
        return await self.deliver_json(element)

    async def merge(self, primary: SimulatedRecord, other: SimulatedRecord, *, dialect: Dialect | None = None) -> Run:
        """Merge `other` into `primary` in HubSpot and deliver the merge; the surviving record may have a new id.

        Raises:
            ValueError: the records have different types.
        """
        if primary.type_id != other.type_id:
            raise ValueError(f"HubSpot merges records of one type, not {primary.object_type} with {other.object_type}.")
        store, type_, source = self.hubspot.portal.crm, self.hubspot.resolve(primary.type_id), self.hubspot.source
        kept, gone = store.get(type_, primary.id), store.get(type_, other.id)
        moved = len(properties_moved(kept, gone))
        survivor = await self.hubspot.change(lambda: store.merge(kept, gone, source))
        merge = Merge(primary.id, (other.id,), survivor.id, moved)
        spec = EventSpec(type_, ChangeKind.MERGE, survivor.id, source, self.hubspot.now_ms(), merge=merge)
        return await self.deliver_json(self._element(spec, dialect, {}))

    async def erase(self, record: SimulatedRecord) -> Run:
        """Erase a record in HubSpot for good, as a person's request for erasure does, and deliver that."""
        type_ = self.hubspot.resolve(record.type_id)
        return await self.deliver(f"{type_.singular}.{ChangeKind.PRIVACY_DELETION}", record)

    async def redeliver(self, run: Run) -> Run:
        """Deliver the events of an earlier run once more, as HubSpot does when it got no answer in time."""
        elements = [{**element, "attemptNumber": int(element["attemptNumber"]) + 1} for element in run.events]
        return await self.deliver_json(*elements)

    async def deliver_json(self, *elements: dict[str, Any]) -> Run:
        """Deliver events of any JSON in one request, signed as HubSpot signs it, and run the worker.

        Raises:
            NotAdmitted: the receiver refused the request.
        """
        return await self._run(self._deliver(list(elements)))

    async def _deliver(self, elements: list[dict[str, Any]]) -> Run:
        deployment = self._deployment
        await deployment.start_worker()
        first_run, first_request = len(deployment.recorder.runs), len(deployment.simulator.requests)
        first_record = len(await deployment.event_records())
        run = Run(events=elements)
        run.admission = await deployment.send(orjson.dumps(elements), self.hubspot.portal_id)
        first_line = len(self._logs.lines)
        await deployment.work()
        event_ids = {element.get("eventId") for element in elements}
        for record in (await deployment.event_records())[first_record:]:
            if record.event_id in event_ids and record.outcome is not None:
                run.outcomes[record.handler] = record.outcome.value
                run.reasons[record.handler] = record.reason
        handler_runs = deployment.recorder.runs[first_run:]
        run.attempts = len(handler_runs)
        run.calls = [call for handler_run in handler_runs for call in handler_run.calls]
        run.errors = [handler_run.error for handler_run in handler_runs if handler_run.error is not None]
        run.error = handler_runs[-1].error if handler_runs else None
        types = self.hubspot.portal.crm.types
        for call in list(deployment.simulator.requests)[first_request:]:
            if call.portal_id == self.hubspot.portal_id:
                run.requests.append(SimulatedRequest(call.method, call.path, call.status or 0))
                plural = types.resolve(call.type_id).plural if call.type_id else ""
                run.writes += [(plural, write.object_id, write.properties) for write in call.writes]
        run.logs = self._logs.lines[first_line:]
        return run

    async def _prepare(
        self,
        event_type: str,
        record: SimulatedRecord,
        *,
        property_name: str | None,
        value: str | None,
        to: SimulatedRecord | None,
        change_source: str,
    ) -> EventSpec:
        """Bring HubSpot into the state that an event reports, and return what the event says."""
        family, kind = split_event_type(event_type)
        type_ = self.hubspot.resolve(record.type_id)
        if family != "object" and self.hubspot.resolve(family) != type_:
            raise ValueError(f"{event_type} is no event of {record!r}: its events begin with {type_.singular}.")
        if (property_name is not None) != (kind is ChangeKind.PROPERTY_CHANGE):
            raise ValueError(f"{event_type}: property=... belongs to propertyChange, and to no other event.")
        if (to is not None) != (kind is ChangeKind.ASSOCIATION_CHANGE):
            raise ValueError(f"{event_type}: to=... belongs to associationChange, and to no other event.")
        if kind is ChangeKind.MERGE:
            raise ValueError("a merge concerns two records: use `await spokes.merge(primary, other)`.")
        store, source = self.hubspot.portal.crm, ChangeSource(change_source, self.hubspot.source.source_id)
        current, association = "", None
        live = store.find(type_, record.id)
        match kind:
            case ChangeKind.PROPERTY_CHANGE:
                if value is not None:
                    await self.hubspot.objects(type_.type_id).update(record, {property_name or "": value})
                current = record[property_name or ""] if value is None else value
            case ChangeKind.DELETION if live is not None:
                await self.hubspot.change(lambda: store.archive(live, source))
            case ChangeKind.RESTORE if live is None:
                await self.hubspot.change(lambda: store.restore(store.get(type_, record.id, archived=True), source))
            case ChangeKind.PRIVACY_DELETION if live is not None:
                await self.hubspot.change(lambda: store.erase(live, source))
            case ChangeKind.ASSOCIATION_CHANGE if to is not None:
                if to not in self.hubspot.associated(record, to.type_id):
                    await self.hubspot.associate(record, to)
                target = store.get(self.hubspot.resolve(to.type_id), to.id).ref
                association = (self.hubspot.association_type(record, to, None), target)
            case _:
                pass
        now_ms = self.hubspot.now_ms()
        return EventSpec(type_, kind, record.id, source, now_ms, property_name, current, association=association)

    def _element(self, spec: EventSpec, dialect: Dialect | None, fields: dict[str, object]) -> dict[str, Any]:
        element = {**self._factory.build(spec, dialect), **fields}
        return {name: value for name, value in element.items() if value is not None or name not in fields}

    async def _run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        return await self._loop.run(work)
