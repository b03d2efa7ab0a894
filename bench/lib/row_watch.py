"""When the rows of the audit store became visible: the end of the chain is read every few milliseconds."""

import asyncio
import bisect
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from sqlalchemy import select

from spokes.audit.records import TERMINAL
from spokes.audit.sql.engine import open_engine, read_connection
from spokes.audit.sql.tables import HEAD, RECORDS
from spokes.core.errors import AuditUnavailable

_POLL_S: Final = 0.005
_TERMINAL: Final = tuple(outcome.value for outcome in TERMINAL)


class RowWatch:
    """Notes when the chain reached which record."""

    def __init__(self, address: str) -> None:
        """Watch the store at `address`, which has its tables."""
        self._engine = open_engine(address)
        self._seqs: list[int] = []
        self._times: list[float] = []

    @classmethod
    @asynccontextmanager
    async def watching(cls, address: str) -> AsyncIterator["RowWatch"]:
        """Watch while the block runs."""
        watch = cls(address)
        task = asyncio.create_task(watch._watch())
        try:
            yield watch
        finally:
            task.cancel()
            await watch._engine.dispose()

    async def settled(self, first_seq: int = 0) -> dict[str, float]:
        """Return when the terminal record of each object was seen, in seconds since 1970, by object id."""
        async with read_connection(self._engine) as connection:
            query = select(RECORDS.c.seq, RECORDS.c.object_id).where(
                RECORDS.c.outcome.in_(_TERMINAL), RECORDS.c.seq > first_seq
            )
            rows = (await connection.execute(query)).all()
        return {str(object_id): self._seen_at(seq) for seq, object_id in rows}

    def _seen_at(self, seq: int) -> float:
        return self._times[min(bisect.bisect_left(self._seqs, seq), len(self._times) - 1)]

    async def _watch(self) -> None:
        while True:
            try:
                async with read_connection(self._engine) as connection:
                    seq = (await connection.execute(select(HEAD.c.seq))).scalar_one_or_none()
            except AuditUnavailable:
                seq = None
            if seq is not None and (not self._seqs or seq > self._seqs[-1]):
                self._seqs.append(seq)
                self._times.append(time.time())
            await asyncio.sleep(_POLL_S)
