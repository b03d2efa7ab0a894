"""Erasure requests in SQL, with their due dates.

A request contains the contact's ids until it is done, so that an interrupted erasure can continue. Then they are
removed.
"""

import calendar
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum, unique
from typing import Final, Self

import orjson
from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.rows import Row
from spokes.audit.sql.engine import write_connection
from spokes.audit.sql.queries import fetch
from spokes.audit.sql.tables import PRIVACY_REQUESTS
from spokes.core.clock import now_ms

_CCPA_PERIOD: Final = timedelta(days=45)
_MONTHS_PER_YEAR: Final = 12


@unique
class Law(StrEnum):
    """The law that a request refers to; it sets the time limit."""

    GDPR = "gdpr"  # one month (article 12)
    CCPA = "ccpa"  # 45 days


@unique
class RequestState(StrEnum):
    """Whether a request is done."""

    OPEN = "open"
    DONE = "done"


def deadline(law: Law, requested_at: int) -> int:
    """Return the epoch ms by which a request must be done; the day is the month's last if the month is too short."""
    requested = datetime.fromtimestamp(requested_at / 1000, UTC)
    if law is Law.CCPA:
        due = requested + _CCPA_PERIOD
    else:
        year, month = requested.year + requested.month // _MONTHS_PER_YEAR, requested.month % _MONTHS_PER_YEAR + 1
        last_day = calendar.monthrange(year, month)[1]
        due = requested.replace(year=year, month=month, day=min(requested.day, last_day))
    return int(due.timestamp() * 1000)


@dataclass(frozen=True, slots=True)
class ErasureRequest:
    """A request to erase a contact. `steps` has the result of each completed step, by name; times are epoch ms."""

    portal_id: int
    object_hash: str
    object_ids: tuple[str, ...]  # the contact's id and those merged into it; empty once done
    kind: Law
    requested_by: str
    requested_at: int = field(default_factory=now_ms)
    id: str = field(default_factory=lambda: secrets.token_hex(6))
    state: RequestState = RequestState.OPEN
    steps: Mapping[str, object] = field(default_factory=dict)
    done_at: int | None = None

    @property
    def due_at(self) -> int:
        """The epoch ms by which it must be done."""
        return deadline(self.kind, self.requested_at)

    @property
    def remains(self) -> tuple[str, ...]:
        """A sentence for each place where erased data may remain, and until when."""
        files = self.steps.get("files")
        return tuple(map(str, files.get("remains", ()))) if isinstance(files, Mapping) else ()

    def with_step(self, name: str, result: object) -> Self:
        """Return a copy with the result of a completed step."""
        return replace(self, steps={**self.steps, name: result})

    def as_done(self) -> Self:
        """Return a copy that is done and contains no ids."""
        return replace(self, state=RequestState.DONE, object_ids=(), done_at=now_ms())

    def to_row(self) -> Row:
        """Return the row stored in the table."""
        ids = orjson.dumps(self.object_ids).decode() if self.object_ids else None
        return {
            "id": self.id, "portal_id": self.portal_id, "object_hash": self.object_hash, "object_ids": ids,
            "kind": self.kind, "requested_at": self.requested_at, "due_at": self.due_at,
            "requested_by": self.requested_by, "state": self.state, "steps": orjson.dumps(self.steps).decode(),
            "done_at": self.done_at,
        }  # fmt: skip

    @classmethod
    def from_row(cls, row: Row) -> Self:
        """Parse a row of the table."""
        return cls(
            portal_id=int(row["portal_id"] or 0),
            object_hash=str(row["object_hash"]),
            object_ids=tuple(orjson.loads(str(row["object_ids"] or "[]"))),
            kind=Law(str(row["kind"])),
            requested_by=str(row["requested_by"]),
            requested_at=int(row["requested_at"] or 0),
            id=str(row["id"]),
            state=RequestState(str(row["state"])),
            steps=orjson.loads(str(row["steps"])),
            done_at=None if row["done_at"] is None else int(row["done_at"]),
        )


async def add_request(engine: AsyncEngine, request: ErasureRequest) -> None:
    """Store a new request.

    Raises:
        AuditUnavailable: the store does not answer.
    """
    async with write_connection(engine) as connection:
        await connection.execute(insert(PRIVACY_REQUESTS).values(**request.to_row()))


async def save_request(engine: AsyncEngine, request: ErasureRequest) -> None:
    """Store the changed state of a request.

    Raises:
        AuditUnavailable: the store does not answer.
    """
    change = update(PRIVACY_REQUESTS).where(PRIVACY_REQUESTS.c.id == request.id).values(**request.to_row())
    async with write_connection(engine) as connection:
        await connection.execute(change)


async def load_requests(engine: AsyncEngine, *, state: RequestState | None = None) -> list[ErasureRequest]:
    """Return the requests, most urgent first.

    Raises:
        AuditUnavailable: the store does not answer.
    """
    query = select(PRIVACY_REQUESTS).order_by(PRIVACY_REQUESTS.c.due_at, PRIVACY_REQUESTS.c.id)
    if state is not None:
        query = query.where(PRIVACY_REQUESTS.c.state == state)
    return [ErasureRequest.from_row(row) for row in await fetch(engine, query)]
