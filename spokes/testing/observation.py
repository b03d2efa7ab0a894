"""Collects what happens between two points of a test into a `Run`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spokes.testing.deployment import KitDeployment
from spokes.testing.log_capture import LogCapture
from spokes.testing.run import Run, SimulatedRequest


@dataclass(frozen=True, slots=True)
class Observation:
    """The point at which it began: how many handler runs, requests, audit records and log lines there were before."""

    deployment: KitDeployment
    logs: LogCapture
    runs: int
    requests: int
    records: int
    lines: int
    http_calls: int

    @classmethod
    async def begin(cls, deployment: KitDeployment, logs: LogCapture) -> "Observation":
        """Begin to observe."""
        records = len(await deployment.event_records())
        runs, requests = len(deployment.recorder.runs), len(deployment.simulator.requests)
        return cls(deployment, logs, runs, requests, records, len(logs.lines), len(deployment.http.calls))

    async def finish(self, elements: Sequence[dict[str, Any]] = (), admission: Mapping[str, int] | None = None) -> Run:
        """Return what has happened since; with `elements`, only the outcomes of these events."""
        handler_runs = self.deployment.recorder.runs[self.runs :]
        run = Run(
            attempts=len(handler_runs),
            calls=[call for handler_run in handler_runs for call in handler_run.calls],
            errors=[handler_run.error for handler_run in handler_runs if handler_run.error is not None],
            error=handler_runs[-1].error if handler_runs else None,
            http_calls=self.deployment.http.calls[self.http_calls :],
            logs=self.logs.lines[self.lines :],
            events=list(elements),
            admission=admission or {},
        )
        event_ids = {element.get("eventId") for element in elements}
        for record in (await self.deployment.event_records())[self.records :]:
            if record.outcome is not None and (not elements or record.event_id in event_ids):
                run.outcomes[record.handler] = record.outcome.value
                run.reasons[record.handler] = record.reason
        for call in list(self.deployment.simulator.requests)[self.requests :]:
            portal = self.deployment.simulator.portals.get(call.portal_id or 0, self.deployment.simulator.portal)
            run.requests.append(SimulatedRequest(call.method, call.path, call.status or 0))
            plural = portal.crm.types.resolve(call.type_id).plural if call.type_id else ""
            run.writes += [(plural, write.object_id, write.properties) for write in call.writes]
        return run
