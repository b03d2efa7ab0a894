"""`Spokes`, the fixture of handlers' tests: deliver an event as HubSpot does, and see what the handlers did."""

from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

import orjson

from spokes.portals.profile import PortalProfile
from spokes.simulator.changes import ChangeKind, Merge
from spokes.simulator.crm.merging import properties_moved
from spokes.testing.crashes import crash_points, work_with_crash
from spokes.testing.deployment import KitDeployment
from spokes.testing.event_loop.background_loop import BackgroundLoop
from spokes.testing.fake_hosts import effect_differences
from spokes.testing.hubspot import SimulatedHubSpot, SimulatedRecord
from spokes.testing.log_capture import LogCapture
from spokes.testing.observation import Observation
from spokes.testing.run import Run
from spokes.testing.simulation.checkpoint import StateCopy
from spokes.testing.simulation.end_state import differences, end_state, known_ids
from spokes.testing.simulation.event_factory import Dialect, EventFactory, EventSpec
from spokes.testing.simulation.event_state import make_true, read_event
from spokes.testing.simulation.outages import outage_fault, rate_limit_fault
from spokes.testing.virtual_clock import Duration, duration_ms

_Result = TypeVar("_Result")


class Spokes:
    """A simulated HubSpot, the receiver and a worker with your handlers, for one test.

    `http` answers the calls that handlers make with `tools.http`. `hubspot` is the HubSpot account; `portals` has it
    and those of the fixture `spokes_portals`, by id. Each `deliver` sends one signed request to the receiver and runs
    the worker until the event has its final outcome: the clock advances by itself to the next retry, so no test waits.
    """

    def __init__(self, deployment: KitDeployment, loop: BackgroundLoop, logs: LogCapture) -> None:
        self._deployment = deployment
        self._loop = loop
        self._logs = logs
        portals = deployment.simulator.portals
        self.portals = {
            portal_id: SimulatedHubSpot(portal, loop, deployment.clock.now_ms) for portal_id, portal in portals.items()
        }
        self.http = deployment.http
        self.hubspot = next(iter(self.portals.values()))
        self._factories = {portal_id: EventFactory(portal.config) for portal_id, portal in portals.items()}

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
        follow_retries: bool = True,
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
            follow_retries: whether the clock advances to the retries of the event; otherwise `advance` does.
            fields: fields of the event's JSON to replace; None removes one.

        Raises:
            ValueError: HubSpot sends no such event.
            NotAdmitted: the receiver refused the request.
        """
        element = await self._bring_about(
            event_type,
            record,
            property_name=property,
            value=value,
            to=to,
            dialect=dialect,
            source=source,
            fields=fields,
        )
        return await self.deliver_json(element, follow_retries=follow_retries)

    async def assert_idempotent(
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
        """Deliver an event as `deliver` does, and then again with a crash before and after each call of `tools`.

        Each time HubSpot and Redis begin as they were, the worker dies at that call, and another one runs the event
        again. HubSpot must end in the same state as without a crash. Returns the run without a crash.

        Raises:
            AssertionError: the state differs after some crash; the message names the call. Or no handler ran.
        """
        element = await self._bring_about(
            event_type,
            record,
            property_name=property,
            value=value,
            to=to,
            dialect=dialect,
            source=source,
            fields=fields,
        )
        return await self._run(self._check_idempotence(record.hubspot, element))

    async def merge(self, primary: SimulatedRecord, other: SimulatedRecord, *, dialect: Dialect | None = None) -> Run:
        """Merge `other` into `primary` in HubSpot and deliver the merge; the surviving record may have a new id.

        Raises:
            ValueError: the records have different types.
        """
        if primary.type_id != other.type_id:
            raise ValueError(f"HubSpot merges records of one type, not {primary.object_type} with {other.object_type}.")
        hubspot = primary.hubspot
        store, type_, source = hubspot.portal.crm, hubspot.resolve(primary.type_id), hubspot.source
        kept, gone = store.get(type_, primary.id), store.get(type_, other.id)
        moved = len(properties_moved(kept, gone))
        survivor = await hubspot.change(lambda: store.merge(kept, gone, source))
        merge = Merge(primary.id, (other.id,), survivor.id, moved)
        spec = EventSpec(type_, ChangeKind.MERGE, survivor.id, source, hubspot.now_ms(), merge=merge)
        return await self.deliver_json(self._element(hubspot, spec, dialect, {}))

    async def erase(self, record: SimulatedRecord) -> Run:
        """Erase a record in HubSpot for good, as a person's request for erasure does, and deliver that."""
        type_ = record.hubspot.resolve(record.type_id)
        return await self.deliver(f"{type_.singular}.{ChangeKind.PRIVACY_DELETION}", record)

    async def redeliver(self, run: Run) -> Run:
        """Deliver the events of an earlier run again, as HubSpot does when it got no answer in time."""
        elements = [{**element, "attemptNumber": int(element["attemptNumber"]) + 1} for element in run.events]
        return await self.deliver_json(*elements)

    async def deliver_json(self, *elements: dict[str, Any], follow_retries: bool = True) -> Run:
        """Deliver events of any JSON in one request, signed as HubSpot signs it, and run the worker.

        Args:
            elements: the events; see `event_json`.
            follow_retries: see `deliver`.

        Raises:
            NotAdmitted: the receiver refused the request.
        """
        return await self._run(self._deliver(list(elements), follow_retries=follow_retries))

    async def advance(self, duration: Duration) -> Run:
        """Let time pass: `3 days`, `90 seconds`, seconds as a number, or a timedelta.

        What falls due in that time runs: retries, and events of a paused portal. What expires is gone: dedupe
        marks, dead letters, effects that `tools.once` guards. Returns what ran.

        Raises:
            ValueError: `duration` is unreadable.
        """
        return await self._run(self._advance(duration_ms(duration)))

    async def set_portal(
        self,
        *,
        settings: Mapping[str, str] | None = None,
        name: str = "",
        time_zone: str = "",
        currency: str = "",
        region: str = "",
        portal_id: int | None = None,
    ) -> None:
        """Set what `tools.portal` shows, as `spokes portals set` does; it replaces what the test set before.

        Args:
            settings: the values of `PortalSettings`, as texts.
            name: of the portal.
            time_zone: such as Europe/Oslo.
            currency: such as NOK.
            region: the country of phone numbers without a +.
            portal_id: the account, by default that of `hubspot`.

        Raises:
            ValueError: the test has no such account.
        """
        for account in self._accounts(self.hubspot.portal_id if portal_id is None else portal_id):
            profile = PortalProfile(account.portal_id, name, time_zone, currency, region)
            await self._run(self._deployment.set_portal(profile, settings or {}))

    async def outage(
        self,
        status: int = 503,
        *,
        calls: int | None = None,
        path: str = "",
        after_effect: bool = False,
        portal_id: int | None = None,
    ) -> None:
        """Make HubSpot answer the next calls with an error; without `calls`, every call until `end_outage`.

        Args:
            status: of the answers; 0 breaks the connection.
            calls: how many calls fail.
            path: only calls whose path matches this shell pattern fail, such as `*/notes`.
            after_effect: whether HubSpot does what is asked before the answer fails.
            portal_id: only calls of this account fail.

        Raises:
            ValueError: the status is no error, `calls` is no number of calls, or the test has no such account.
        """
        self._accounts(portal_id)
        fault = outage_fault(status, calls, path, portal_id, after_effect=after_effect)
        await self._run(self._deployment.add_fault(fault))

    async def end_outage(self) -> None:
        """End what `outage` and `rate_limited` began."""
        await self.hubspot.change(self._deployment.simulator.faults.clear)

    async def rate_limited(
        self, *, calls: int = 1, retry_after_s: int | None = None, portal_id: int | None = None
    ) -> None:
        """Make HubSpot answer the next calls, or those of one account, with 429.

        With `retry_after_s`, the header Retry-After has it too.

        Raises:
            ValueError: a number is wrong, or the test has no such account.
        """
        self._accounts(portal_id)
        fault = rate_limit_fault(calls, retry_after_s, portal_id)
        await self._run(self._deployment.add_fault(fault))

    async def missing_scope(self, *scopes: str, portal_id: int | None = None) -> None:
        """Take scopes, such as `crm.objects.contacts.write`, from the access token of every account, or of one.

        Raises:
            ValueError: HubSpot has no such scope, or the test no such account.
        """
        accounts = self._accounts(portal_id)
        if not scopes:
            raise ValueError("name the scopes to take away, such as crm.objects.contacts.write.")
        for account in accounts:
            await self._run(self._deployment.remove_scopes(account.portal, scopes))

    async def pause_handler(self, handler: str, *, portal_id: int | None = None) -> None:
        """Pause one handler, such as `contacts.greet`, in every account or in one, as `spokes pause --handler` does.

        Raises:
            ValueError: there is no such handler or account.
        """
        self._accounts(portal_id)
        await self._run(self._deployment.pause_handler(handler, portal_id))

    async def resume_handler(self, handler: str) -> Run:
        """Resume a paused handler in every account; return the run of the events that waited for it.

        Raises:
            ValueError: it is not paused.
        """
        return await self._run(self._resume(handler))

    def event_json(
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
    ) -> dict[str, Any]:
        """Return the JSON that HubSpot sends for an event, as `deliver` sends it, and change nothing in HubSpot."""
        spec = read_event(
            record.hubspot, event_type, record, property_name=property, value=value, to=to, change_source=source
        )
        return self._element(record.hubspot, spec, _dialect(event_type, dialect), fields)

    def _accounts(self, portal_id: int | None) -> list[SimulatedHubSpot]:
        """Return one account, or all."""
        if portal_id is not None and portal_id not in self.portals:
            raise ValueError(f"the test has no account {portal_id!r}: the fixture spokes_portals names its accounts.")
        return [account for id_, account in self.portals.items() if portal_id in {None, id_}]

    async def _resume(self, handler: str) -> Run:
        observation = await self._observe()
        await self._deployment.resume_handler(handler)
        await self._deployment.work()
        return await observation.finish()

    async def _advance(self, milliseconds: int) -> Run:
        deployment = self._deployment
        until_ms = deployment.clock.now_ms() + milliseconds
        observation = await self._observe()
        await deployment.work(until_ms=until_ms)
        await deployment.advance(until_ms - deployment.clock.now_ms())
        await deployment.work(until_ms=deployment.clock.now_ms())
        return await observation.finish()

    async def _deliver(self, elements: list[dict[str, Any]], *, follow_retries: bool) -> Run:
        deployment = self._deployment
        await deployment.start_workers()
        observation = await self._observe()
        admission = await deployment.send(orjson.dumps(elements), self.hubspot.portal_id)
        await deployment.work(until_ms=None if follow_retries else deployment.clock.now_ms())
        return await observation.finish(elements, admission)

    async def _check_idempotence(self, hubspot: SimulatedHubSpot, element: dict[str, Any]) -> Run:
        deployment, portal = self._deployment, hubspot.portal
        await deployment.end_workers()
        answers = deployment.http.snapshot()
        start, known = await StateCopy.take(deployment.simulator, deployment.redis), known_ids(portal.crm)
        run = await self._deliver([element], follow_retries=True)
        if not run.attempts:
            raise AssertionError(f"no handler ran for this event: it was {run.outcome}.")
        expected, effects = end_state(portal.crm, known), deployment.http.effects()
        for point in crash_points():
            await deployment.end_workers()
            await start.restore(deployment.simulator, deployment.redis)
            deployment.http.restore(answers)
            await deployment.start_workers()
            await deployment.send(orjson.dumps([element]), hubspot.portal_id)
            if not await work_with_crash(deployment, point):
                return run
            found = differences(expected, end_state(portal.crm, known))
            if found := [*found, *effect_differences(effects, deployment.http.effects())]:
                last = deployment.recorder.runs[-1]
                end = f" The run after the crash raised {last.error!r}." if last.error is not None else ""
                raise AssertionError(f"The handler is not idempotent. With a crash {point}: {'; '.join(found)}.{end}")
        raise RuntimeError("the handler makes too many calls for this check")

    async def _observe(self) -> Observation:
        return await Observation.begin(self._deployment, self._logs)

    async def _bring_about(
        self, event_type: str, record: SimulatedRecord, *, property_name: str | None, value: str | None,
        to: SimulatedRecord | None, dialect: Dialect | None, source: str, fields: dict[str, object],
    ) -> dict[str, Any]:  # fmt: skip
        """Bring HubSpot into the state that an event reports; return the event's JSON.

        Raises:
            ValueError: HubSpot sends no such event.
        """
        spec = read_event(
            record.hubspot, event_type, record, property_name=property_name, value=value, to=to, change_source=source
        )
        element = self._element(record.hubspot, spec, _dialect(event_type, dialect), fields)
        await make_true(record.hubspot, spec, record, value=value, to=to)
        return element

    def _element(
        self, hubspot: SimulatedHubSpot, spec: EventSpec, dialect: Dialect | None, fields: dict[str, object]
    ) -> dict[str, Any]:
        element = {**self._factories[hubspot.portal_id].build(spec, dialect), **fields}
        return {name: value for name, value in element.items() if value is not None or name not in fields}

    async def _run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        return await self._loop.run(work)


def _dialect(event_type: str, dialect: Dialect | None) -> Dialect | None:
    return "generic" if event_type.startswith("object.") else dialect
