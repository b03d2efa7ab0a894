"""spokes.console.doctor.portals.tenant_check: whose database it is, and which portals' events lack credentials."""

import time

from redis.asyncio import Redis

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.console.doctor.findings import FindingLevel
from spokes.console.doctor.portals.tenant_check import check_tenants
from spokes.core.redis import keys
from spokes.core.redis.deployment import claim_database
from spokes.core.settings import Settings
from spokes.core.telemetry.alerts import Alert
from spokes.queue.token_reports import TokenReports


async def test_database_of_another_deployment_is_a_fault(redis: Redis, environ: dict[str, str]) -> None:
    await claim_database(redis, Settings.from_env(environ))
    assert await check_tenants(Settings.from_env(environ), redis) == []
    (finding,) = await check_tenants(Settings.from_env({**environ, "AUDIT_KEY": "k" * 32}), redis)
    assert (finding.level, finding.topic) == (FindingLevel.FAULT, "deployment")


async def test_served_portals_and_those_without_credentials_are_named(redis: Redis, environ: dict[str, str]) -> None:
    await redis.zadd(keys.CREDENTIAL_PORTALS, {"50112233": time.time(), "3": time.time() - 3600})
    await AlertEpisodes(redis).set_state(Alert.NO_CREDENTIALS, subject=7, portal_id=7, is_active=True)
    await redis.zadd(keys.parked_deliveries(7), {"7-1-a": 1})
    findings = await check_tenants(Settings.from_env(environ), redis)
    assert [(finding.level, finding.sentence.partition(":")[0]) for finding in findings] == [
        (FindingLevel.OK, "Workers have the credentials of portal 50112233."),
        (FindingLevel.WARNING, "No worker has the credentials of portal 7"),
    ]


async def test_workers_with_a_refused_token_are_named(redis: Redis, environ: dict[str, str]) -> None:
    await redis.zadd(keys.CREDENTIAL_PORTALS, {"7": time.time()})
    reports = TokenReports(redis)
    await reports.put(7, "host:1:aa", "0123abcd", is_refused=True)
    await reports.put(7, "host:2:bb", "9876fedc", is_refused=False)
    _, finding = await check_tenants(Settings.from_env(environ), redis)
    assert finding.level is FindingLevel.WARNING
    assert finding.sentence.startswith(
        "HubSpot refuses the access token with the fingerprint 0123abcd: host:1:aa claims nothing for portal 7"
    )
