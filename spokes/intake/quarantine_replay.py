"""Admit quarantined contents again, after a fix of what made them unreadable."""

from collections.abc import Collection, Iterable
from typing import NamedTuple

from spokes.audit.bad_items import READ_ERRORS
from spokes.audit.records import Outcome
from spokes.core import clock
from spokes.core.errors import RejectedRequest, SecretUnreadable
from spokes.core.telemetry.alerts import Alert
from spokes.intake.admission import Admission
from spokes.intake.allow_list import AllowList
from spokes.intake.body_parser import parse_body
from spokes.intake.classification import classify
from spokes.intake.event_keys import EventKeys
from spokes.queue.quarantine import Quarantine, QuarantinedContent


class ReplayCounts(NamedTuple):
    """How many contents were admitted, and how many are still unreadable and stay in quarantine."""

    admitted: int
    unreadable: int


class QuarantineReplay:
    """Replays contents as the receiver would take them now; events that were admitted before are dropped as known."""

    def __init__(
        self,
        quarantine: Quarantine,
        admission: Admission,
        *,
        allow_list: AllowList,
        keys: EventKeys,
        portal_ids: Collection[int],
    ) -> None:
        self._quarantine = quarantine
        self._admission = admission
        self._allow_list = allow_list
        self._keys = keys
        self._portal_ids = portal_ids

    async def replay(
        self, contents: Iterable[QuarantinedContent], *, actor: str, reason: str, address: str = ""
    ) -> ReplayCounts:
        """Admit the events in the contents, then close these; a content without a readable event stays.

        Raises:
            QueueUnavailable: Redis did not confirm; the content stays and may be replayed again.
        """
        admitted = unreadable = 0
        for content in contents:
            if await self._admit(content):
                admitted += await self._quarantine.close(
                    content, Outcome.REPLAYED, actor=actor, reason=reason, address=address
                )
            else:
                unreadable += 1
        return ReplayCounts(admitted, unreadable)

    async def _admit(self, content: QuarantinedContent) -> bool:
        try:
            parsed = parse_body(self._quarantine.open(content))
        except (RejectedRequest, SecretUnreadable, *READ_ERRORS):
            return False
        if not parsed.events:
            return False
        deliveries = classify(
            parsed, allow_list=self._allow_list, keys=self._keys, portal_ids=self._portal_ids, now_ms=clock.now_ms()
        )
        for delivery in deliveries:
            if delivery.malformed:  # of a body: each is kept on its own from now on
                await self._quarantine.keep(
                    delivery.malformed, delivery_id=delivery.id, alert=Alert.ELEMENTS_QUARANTINED
                )
        await self._admission.admit_together(deliveries)
        return True
