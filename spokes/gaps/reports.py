"""Reports and proofs on their way to the ledger: a Redis list, for processes that do not open the SQL store.

`report_missed` and `report_proven` are for every process. A worker moves what waits to the ledger, in order
(workers.upkeep.gap_watch). A report may be applied twice: gaps merge.
"""

from dataclasses import asdict
from typing import Any, Final, TypeAlias, cast

import orjson
from redis.asyncio import Redis

from spokes.core.redis.keys import GAP_REPORTS
from spokes.gaps.gap import GapCause, MissedInterval, Proof, ProvenInterval

Report: TypeAlias = MissedInterval | ProvenInterval
_MAX_READ: Final = 500


async def report_missed(redis: Redis, missed: MissedInterval) -> None:
    """Report that events may have been missed.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    await redis.rpush(GAP_REPORTS, encode(missed))  # type: ignore[misc]  # redis-py types one class for sync and async


async def report_proven(redis: Redis, proven: ProvenInterval) -> None:
    """Report that no event of an interval is missing.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    await redis.rpush(GAP_REPORTS, encode(proven))  # type: ignore[misc]  # as above


async def waiting_reports(redis: Redis) -> list[bytes]:
    """Return the oldest reports that wait, unparsed.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    return cast("list[bytes]", await redis.lrange(GAP_REPORTS, 0, _MAX_READ - 1))  # type: ignore[misc]  # as above


async def remove_reports(redis: Redis, count: int) -> None:
    """Remove the oldest reports, which are in the ledger now.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    await redis.ltrim(GAP_REPORTS, count, -1)  # type: ignore[misc]  # as above


def encode(report: Report) -> bytes:
    """Return a report as JSON."""
    return orjson.dumps(asdict(report))


def decode(payload: bytes) -> Report | None:
    """Return a report, None if the payload is none that this version knows."""
    try:
        fields: dict[str, Any] = orjson.loads(payload)
        if "proof" in fields:
            cause = fields.get("only_cause")
            only_cause = None if cause is None else GapCause(cause)
            return ProvenInterval(**(fields | {"proof": Proof(fields["proof"]), "only_cause": only_cause}))
        return MissedInterval(**(fields | {"cause": GapCause(fields["cause"])}))
    except (TypeError, ValueError, KeyError):
        return None
