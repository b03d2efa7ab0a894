"""Check whose Redis database this is, which portals workers serve, and which of them lack accepted credentials."""

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from redis.asyncio import Redis
from redis.exceptions import RedisError

from spokes.console.doctor.findings import Finding, fault, ok, warning
from spokes.core.redis import keys
from spokes.core.redis.deployment import FORMAT, fingerprint, other_deployment_sentence
from spokes.core.settings import Settings
from spokes.core.telemetry.alerts import Alert
from spokes.core.telemetry.metric_totals import PROCESS_TTL_S
from spokes.queue.token_reports import TokenReports


class Tenants(NamedTuple):
    """What Redis stores about them.

    Attributes:
        fingerprint: of the database's deployment.
        oldest_beside: the oldest format whose processes may run beside those that use the database.
        served_portals: portals that workers serve.
        parked: parked deliveries by portal.
        refused: names of the workers that stopped, by portal and fingerprint of the token that HubSpot refuses.
    """

    fingerprint: str
    oldest_beside: int
    served_portals: Sequence[str]
    parked: Mapping[str, int]
    refused: Mapping[tuple[str, str], Sequence[str]]


async def check_tenants(settings: Settings, redis: Redis) -> list[Finding]:
    """Read the state from Redis and assess it."""
    try:
        stored, oldest = await redis.hmget(keys.DEPLOYMENT, ["fingerprint", "oldest_beside"])  # type: ignore[misc]  # redis-py types one class for sync and async
        served = await redis.zrangebyscore(keys.CREDENTIAL_PORTALS, time.time() - PROCESS_TTL_S, "+inf")
        names = [name.decode() for name in served if name.isdigit()]
        refused = await _refused(redis, names)
        tenants = Tenants(
            (stored or b"").decode(errors="replace"), _format(oldest), names, await _parked(redis), refused
        )
    except (RedisError, OSError, TimeoutError):
        return []  # redis_check reports an unreachable Redis
    return list(assess_tenants(tenants, settings))


def assess_tenants(tenants: Tenants, settings: Settings) -> Iterator[Finding]:
    """Assess the database's deployment, and the portals without credentials."""
    if tenants.fingerprint and tenants.fingerprint != fingerprint(settings):
        yield fault("deployment", f"No web process or worker starts. {other_deployment_sentence(settings)}")
    if tenants.oldest_beside > FORMAT:
        yield fault(
            "deployment",
            "The Redis database is used by a newer version of Spokes, which this version cannot run beside: its "
            "processes refuse to start. Deploy the newer version for all processes.",
        )
    if tenants.served_portals:
        portals = ", ".join(tenants.served_portals)
        yield ok("portals", f"Workers have the credentials of portal {portals}.", portals=list(tenants.served_portals))
    for portal, deliveries in tenants.parked.items():
        yield warning(
            "portals",
            f"No worker has the credentials of portal {portal}: {deliveries:,} of its deliveries are parked, and their "
            "events become dead letters after 24 hours. Start a worker with the portal's token, or remove the webhook "
            "subscription.",
            portal=portal,
            parked=deliveries,
        )

    for (portal, token), workers in tenants.refused.items():
        yield warning(
            "portals",
            f"HubSpot refuses the access token with the fingerprint {token}: {', '.join(workers)} claims nothing for "
            f"portal {portal}, whose events run on the workers with another token. Set the new HUBSPOT_ACCESS_TOKEN "
            "there and restart these workers.",
            portal=portal,
            fingerprint=token,
            workers=list(workers),
        )


async def _refused(redis: Redis, portals: Sequence[str]) -> dict[tuple[str, str], list[str]]:
    refused: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for portal in portals:
        if portal.isascii() and portal.isdecimal():
            for report in await TokenReports(redis).live(int(portal)):
                if report.is_refused:
                    refused[portal, report.fingerprint].append(report.worker)
    return dict(refused)


def _format(stored: bytes | None) -> int:
    return int(stored) if stored and stored.isdigit() else 0


async def _parked(redis: Redis) -> dict[str, int]:
    prefix = f"{Alert.NO_CREDENTIALS}:"
    names: list[bytes] = await redis.hkeys(keys.ALERTS_ACTIVE)  # type: ignore[misc]  # as above
    portals = [
        text.removeprefix(prefix) for name in names if (text := name.decode(errors="replace")).startswith(prefix)
    ]
    known = [portal for portal in portals if portal.isascii() and portal.isdecimal()]
    return {portal: await redis.zcard(keys.parked_deliveries(int(portal))) for portal in known}
