"""Reports and proofs on their way to the ledger: a Redis list, for processes that do not open the SQL store.

`report_missed` and `report_proven` are for every process. A worker moves what waits to the ledger, in order
(workers.upkeep.gaps.gap_watch). A report may be applied twice: gaps merge.
"""

from dataclasses import asdict
from typing import Any, TypeAlias

import orjson
from redis.asyncio import Redis

from spokes.core.redis.keys import GAP_REPORTS
from spokes.core.redis.waiting_list import WaitingList
from spokes.gaps.gap import GapCause, MissedInterval, Proof, ProvenInterval

Report: TypeAlias = MissedInterval | ProvenInterval


def gap_reports(redis: Redis) -> WaitingList:
    """Return the list of the reports that wait."""
    return WaitingList(redis, GAP_REPORTS)


async def report_missed(redis: Redis, missed: MissedInterval) -> None:
    """Report that events may have been missed.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    await gap_reports(redis).add([encode(missed)])


async def report_proven(redis: Redis, proven: ProvenInterval) -> None:
    """Report that no event of an interval is missing.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    await gap_reports(redis).add([encode(proven)])


def encode(report: Report) -> bytes:
    """Return a report as JSON."""
    return orjson.dumps(asdict(report))


def decode(payload: bytes) -> Report | None:
    """Return a report, None if the payload is none that this version knows."""
    try:
        fields: Any = orjson.loads(payload)
        if not isinstance(fields, dict):
            return None
        if "proof" in fields:
            cause = fields.get("only_cause")
            only_cause = None if cause is None else GapCause(cause)
            return ProvenInterval(**(fields | {"proof": Proof(fields["proof"]), "only_cause": only_cause}))
        return MissedInterval(**(fields | {"cause": GapCause(fields["cause"])}))
    except (TypeError, ValueError, KeyError):
        return None
