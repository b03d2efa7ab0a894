"""Compare what the handlers register for with what arrives; HubSpot is not called."""

from collections.abc import Iterable, Iterator
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from spokes.audit.sql.engine import open_engine
from spokes.console.doctor.findings import Finding, info, ok, warning
from spokes.core.errors import AuditUnavailable, ConfigurationError
from spokes.core.settings import Settings
from spokes.routing import NO_HANDLERS, Router
from spokes.subscriptions.drift.findings import Drift, Severity
from spokes.subscriptions.drift.report import read_drift

TOPIC: Final = "subscriptions"
_NAMED: Final = 20  # subjects that a finding names


async def check_drift(settings: Settings, redis: Redis, router: Router) -> list[Finding]:
    """Read what arrived, and assess it."""
    if not router.registrations:
        return [warning(TOPIC, NO_HANDLERS)]
    engine = open_engine(settings.database_address)
    try:
        report = await read_drift(settings, redis, engine, router)
    except ConfigurationError as error:
        return [warning(TOPIC, problem) for problem in error.problems]
    except (RedisError, OSError, TimeoutError, AuditUnavailable):
        return []  # redis_check and audit_store_check report them
    finally:
        await engine.dispose()
    return list(assess_drifts(report.drifts))


def assess_drifts(drifts: Iterable[Drift]) -> Iterator[Finding]:
    """Return a finding for each kind of drift. None is a fault: rare events look the same as missing ones."""
    is_empty = True
    for drift in drifts:
        is_empty = False
        level = info if drift.severity is Severity.NOTICE else warning
        names = [f"{name} ({detail})" if detail else name for name, detail in drift.subjects.items()]
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        sentence = f"{drift.explanation} {', '.join(names[:_NAMED])}{more}."
        yield level(TOPIC, sentence, drift=drift.kind.value, subjects=dict(drift.subjects))
    if is_empty:
        yield ok(TOPIC, "What arrives is what the handlers register for.")
