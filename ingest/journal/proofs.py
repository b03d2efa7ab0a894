"""`JournalProofs`: tell the ledger of gaps which intervals the journal has covered.

A portal and scope are covered from the first page on in which they occur: HubSpot then journals them. Whoever is not
subscribed never occurs, and no gap of theirs is closed. Proofs are reported while gaps are open, once a minute.
"""

import time
from collections.abc import Iterable
from typing import Final

from redis.asyncio import Redis

from spokes.core.events import Event
from spokes.core.json_reading.json_fields import read_bigint, read_id
from spokes.core.redis.keys import JOURNAL_SCOPES, OPEN_GAPS
from spokes.gaps.gap import RECORD_KINDS, Proof, ProvenInterval
from spokes.gaps.reports import report_proven

_REPORT_EVERY_S: Final = 60.0
_MARGIN_MS: Final = 300_000  # by which HubSpot may publish an event after it occurred
_MAX_KNOWN: Final = 100_000  # of this process's memory


class JournalProofs:
    """What occurs in the journal, since when, and until when it is read."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._known: set[str] = set()
        self._new: set[str] = set()
        self._reported_at = 0.0

    def note(self, events: Iterable[Event]) -> None:
        """Note the portals and scopes of events that are admitted."""
        for event in events:
            scope = event.object_type if event.kind in RECORD_KINDS else event.type
            field = f"{event.portal_id}:{scope}"
            if field not in self._known:
                self._new.add(field)

    async def keep(self, published_at: int) -> None:
        """Store what occurred first in the page that was published then (epoch ms).

        Raises:
            RedisError, OSError: Redis does not answer.
        """
        if not self._new:
            return
        async with self._redis.pipeline(transaction=True) as pipeline:
            for field in self._new:
                pipeline.hsetnx(JOURNAL_SCOPES, field, str(published_at))
            await pipeline.execute()
        self._known |= self._new if len(self._known) < _MAX_KNOWN else set()
        self._new.clear()

    async def forget(self) -> None:
        """Begin again: pages may be missing.

        Raises:
            RedisError, OSError: Redis does not answer.
        """
        await self._redis.delete(JOURNAL_SCOPES)
        self._known.clear()

    async def report(self, read_until: int) -> None:
        """Report what is covered until then (epoch ms), if gaps are open.

        Raises:
            RedisError, OSError: Redis does not answer.
        """
        if time.monotonic() - self._reported_at < _REPORT_EVERY_S:
            return
        self._reported_at = time.monotonic()
        if not int(await self._redis.get(OPEN_GAPS) or 0):
            return
        fields = await self._redis.hgetall(JOURNAL_SCOPES)  # type: ignore[misc]  # redis-py types one class for sync and async
        for field, value in fields.items():
            portal, _, scope = field.decode(errors="replace").partition(":")
            portal_id, since = read_id(portal), read_bigint(value.decode(errors="replace"))
            if portal_id is not None and since is not None and since < read_until - _MARGIN_MS:
                proven = ProvenInterval(
                    since=since, until=read_until - _MARGIN_MS, proof=Proof.JOURNAL, portal_id=portal_id, scope=scope
                )
                await report_proven(self._redis, proven)
