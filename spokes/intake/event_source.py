"""Admit events that no request of HubSpot's brought: those of the journal, of a backfill, of a replay.

They take the way of the receiver: same allow-list, event keys, priority classes, dedupe marks and audit records. When
`admit` returns, its events survive the death of every process of ours.
"""

from collections.abc import Collection, Iterable

import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError

from spokes.core import clock
from spokes.core.errors import QueueUnavailable
from spokes.core.events import Intake, RawEvent
from spokes.core.masking import derive_key
from spokes.core.master_key import load_master_key
from spokes.core.priority import Priority
from spokes.core.settings import Settings
from spokes.core.telemetry.alerts import Alert
from spokes.intake.admission import Admission
from spokes.intake.allow_list import AllowList
from spokes.intake.body_parser import ParsedBody, parse_body
from spokes.intake.classification import Summary, classify, summary
from spokes.intake.event_keys import EventKeys
from spokes.queue.quarantine import NO_PORTAL, NewContent, Quarantine


class EventSource:
    """Admits events of one intake."""

    def __init__(
        self,
        intake: Intake,
        admission: Admission,
        quarantine: Quarantine,
        *,
        allow_list: AllowList,
        keys: EventKeys,
        portal_ids: Collection[int],
    ) -> None:
        self.admission = admission
        self._intake = intake
        self._quarantine = quarantine
        self.allow_list = allow_list
        self._keys = keys
        self.portal_ids = portal_ids

    @classmethod
    def from_settings(
        cls, intake: Intake, redis: Redis, settings: Settings, registrations: Iterable[str]
    ) -> "EventSource":
        """Return a source that admits what handlers register for; `close` it before `redis`.

        Args:
            intake: of its events.
            redis: see `Admission`.
            settings: of the deployment.
            registrations: of all handlers: `load_router(settings.handlers).registrations`.
        """
        admission = Admission(
            redis,
            dedupe_ttl_s=settings.dedupe_hours * 3600,
            durable=settings.durable_ack == "aof",
            timeout_s=settings.redis_timeout_s,
        )
        return cls(
            intake,
            admission,
            Quarantine.from_settings(redis, settings),
            allow_list=AllowList(registrations, settings.allowed_events),
            keys=EventKeys(derive_key(load_master_key(settings), "event keys")),
            portal_ids=settings.portal_ids,
        )

    async def admit(
        self, elements: Collection[RawEvent], *, origin: str = "", priority: Priority | None = None
    ) -> Summary:
        """Admit elements in the form of HubSpot's requests, at most a few hundred; return how many had which result.

        Known events are dropped; elements that are no valid events are kept in quarantine.

        Args:
            elements: of any portals.
            origin: where they come from, for the audit: a page of the journal, the id of a backfill.
            priority: the class of all of them; None: as each one's changeSource says.

        Raises:
            QueueUnavailable: Redis did not confirm; some of the events may be stored, and are known the next time.
        """
        return await self.admit_parsed(parse_body(orjson.dumps([*elements])), origin=origin, priority=priority)

    async def admit_parsed(self, parsed: ParsedBody, *, origin: str = "", priority: Priority | None = None) -> Summary:
        """Admit the events of a parsed body; see `admit`.

        Raises:
            QueueUnavailable: see `admit`.
        """
        deliveries = classify(
            parsed,
            allow_list=self.allow_list,
            keys=self._keys,
            portal_ids=self.portal_ids,
            now_ms=clock.now_ms(),
            priority=priority,
            intake=self._intake,
            origin=origin,
        )
        for delivery in deliveries:
            if delivery.malformed:
                await self._keep_malformed(delivery.id, delivery.malformed)
        return summary(await self.admission.admit_together(deliveries)) if deliveries else summary([])

    async def keep_unreadable(self, content: bytes, reason: str) -> None:
        """Keep a content in which no events can be found, such as a whole page.

        Raises:
            QueueUnavailable: Redis did not confirm.
        """
        await self._keep_malformed("", [NewContent(NO_PORTAL, self._keys.for_content(content), reason, content)])

    async def _keep_malformed(self, delivery_id: str, contents: Collection[NewContent]) -> None:
        try:
            await self._quarantine.keep(contents, delivery_id=delivery_id, alert=Alert.ELEMENTS_QUARANTINED)
        except (RedisError, OSError, TimeoutError) as error:
            raise QueueUnavailable from error

    async def close(self) -> None:
        """Wait for the calls in flight, then release the connections."""
        await self.admission.close()
