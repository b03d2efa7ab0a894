"""Settings, parts outside and queues of which `doctor` names what is wrong: further than those of test_breakages."""

import time
from pathlib import Path

import pytest
from sqlalchemy import text

from spokes.console.doctor.settings_check import misspelt
from spokes.core import clock
from spokes.core.redis import keys
from spokes.core.settings import Settings
from spokes.queue.held_deliveries import Calls
from spokes.queue.pauses.portal_pauses import PortalPauses
from tests.console.doctor.breakages import (
    FAULT,
    PORTAL,
    REFUSED,
    WARNING,
    Breakage,
    Deployment,
    assert_is_named,
    response,
    settings,
    wrong_type,
)

NAMES = frozenset(name.upper() for name in Settings.model_fields)


def renamed(name: str, other: str) -> Breakage:
    async def change(deployment: Deployment) -> None:
        deployment.environ[other] = deployment.environ.pop(name)

    return change


async def quoted_token(deployment: Deployment) -> None:
    deployment.environ["HUBSPOT_ACCESS_TOKEN"] = f"'{deployment.environ['HUBSPOT_ACCESS_TOKEN']}'"


async def token_with_its_header(deployment: Deployment) -> None:
    deployment.environ["HUBSPOT_ACCESS_TOKEN"] = f"Bearer {deployment.environ['HUBSPOT_ACCESS_TOKEN']}"


async def dead_processes(deployment: Deployment) -> None:
    an_hour_ago_s = time.time() - 3600
    await deployment.redis.zadd(keys.LIVE_PROCESSES, {"web:a": an_hour_ago_s, "worker:b": an_hour_ago_s})


async def late_imports(deployment: Deployment) -> None:
    await deployment.redis.zadd(keys.IMPORT_QUEUE, {"7-1": clock.now_ms() - 6_000_000})


async def failing_host(deployment: Deployment) -> None:
    calls = Calls(PORTAL, "https://erp.example.com")
    await PortalPauses(deployment.redis).calls.pause(calls, "http_unavailable", 60.0, failed_probes=0)


async def alert_of_another_version(deployment: Deployment) -> None:
    await deployment.redis.hset(keys.ALERTS_ACTIVE, "alert_of_tomorrow", "{}")  # type: ignore[misc]  # redis-py types one class for sync and async


async def dropped_table(deployment: Deployment) -> None:
    await deployment.archive()
    await deployment.sql(text("DROP TABLE audit_records"))


def text_file(path: str) -> Path:
    file = Path(path)
    file.write_text("a text of somebody " * 100)
    return file


async def file_that_is_no_database(deployment: Deployment) -> None:
    path = text_file(f"{deployment.environ['DATA_DIR']}.txt")
    deployment.environ["DATABASE_URL"] = f"sqlite:///{path}"


async def file_as_data_dir(deployment: Deployment) -> None:
    deployment.environ["DATA_DIR"] = str(text_file(f"{deployment.environ['DATA_DIR']}.txt"))


async def data_dir_below_a_file(deployment: Deployment) -> None:
    deployment.environ["DATA_DIR"] = f"{text_file(deployment.environ['DATA_DIR'] + '.txt')}/a/b"


async def file_as_data_dir_that_is_needed(deployment: Deployment) -> None:
    await file_as_data_dir(deployment)
    deployment.environ["AUDIT_KEY"] = ""


async def file_as_data_dir_with_the_audit(deployment: Deployment) -> None:
    await file_as_data_dir(deployment)
    deployment.environ["DATABASE_URL"] = ""


BREAKAGES: dict[str, tuple[Breakage, int, str]] = {
    "file as DATA_DIR": (file_as_data_dir, WARNING, "(it is a file): workers here keep no crash traces"),
    "DATA_DIR below a file": (data_dir_below_a_file, WARNING, "txt' is a file): workers here keep no crash traces"),
    "file as DATA_DIR, without AUDIT_KEY": (file_as_data_dir_that_is_needed, REFUSED, "Set DATA_DIR to a folder"),
    "file as DATA_DIR, without DATABASE_URL": (file_as_data_dir_with_the_audit, REFUSED, "(it is a file)"),
    "PUBLIC_URL without https": (settings(PUBLIC_URL="hooks.example.com"), REFUSED, "PUBLIC_URL has no scheme"),
    "PUBLIC_URL with a query": (settings(PUBLIC_URL="https://h.example.com/?a=1"), REFUSED, "without query"),
    "TRUSTED_PROXIES as yes and no": (settings(TRUSTED_PROXIES="true"), REFUSED, "TRUSTED_PROXIES must be a whole"),
    "plain http to HubSpot": (settings(HUBSPOT_API_URL="http://api.hubapi.com"), REFUSED, "must be an https URL"),
    "name of a portal": (settings(PORTAL_IDS="our portal"), REFUSED, "PORTAL_IDS must be whole numbers"),
    "unknown signature version": (settings(SIGNATURE_VERSIONS="v4"), REFUSED, "must be 'v1', 'v2' or 'v3'"),
    "# in a password": (settings(DATABASE_URL="postgres://u:p#ss@h/x"), REFUSED, "write %23"),
    "name of a Redis database": (settings(REDIS_URL="redis://127.0.0.1/main"), REFUSED, "write /0 to /15"),
    "network that is none": (settings(ALLOWED_ADDRESSES="10.0.0.0/40"), REFUSED, "must be networks such as"),
    "country by its name": (settings(DEFAULT_REGION="Germany"), REFUSED, "two capital letters"),
    "country that does not exist": (settings(DEFAULT_REGION="XX"), REFUSED, "the code of no country"),
    "size with a unit": (settings(MAX_BODY_BYTES="10MB"), REFUSED, "MAX_BODY_BYTES must be a whole number"),
    "share in percent": (settings(MAX_MEMORY_SHARE="85"), REFUSED, "must be at most 1.0"),
    "journal with short marks": (settings(JOURNAL="1"), REFUSED, "Set DEDUPE_HOURS to 96"),
    "relative file of checkpoints": (settings(CHECKPOINT_TO="kept.txt"), REFUSED, "the absolute path of a file"),
    "folder of checkpoints missing": (settings(CHECKPOINT_TO="/nowhere/kept.txt"), FAULT, "a folder that exists"),
    "origin without a scheme": (settings(CONSOLE_ORIGINS="ops.example.com"), REFUSED, "CONSOLE_ORIGINS has no scheme"),
    "webhook without a secret": (
        settings(ALERT_WEBHOOK_URL="https://hooks.example.com/x"), REFUSED, "ALERT_WEBHOOK_SECRET is not set"
    ),
    "token in quotes": (quoted_token, REFUSED, "is enclosed in quotation marks"),
    "token with its header": (token_with_its_header, REFUSED, "copy only the secret"),
    "token as client secret": (
        settings(HUBSPOT_CLIENT_SECRET="pat-na1-0123456789abcdef0123456789"), REFUSED,
        "HUBSPOT_CLIENT_SECRET is an access token",
    ),
    "misspelt name of a needed variable": (
        renamed("HUBSPOT_ACCESS_TOKEN", "HUBSPOT_ACCES_TOKEN"), FAULT,
        "HUBSPOT_ACCES_TOKEN is no setting, so it has no effect. Did you mean HUBSPOT_ACCESS_TOKEN?",
    ),
    "misspelt name of an optional variable": (
        settings(MAX_BACKLOGS="100"), WARNING, "MAX_BACKLOGS is no setting, so it has no effect. Did you mean"
    ),
    "event type that HubSpot does not send": (
        settings(ALLOWED_EVENTS="deal.merge,-contact.created"), WARNING, "contact.creation"
    ),
    "property of no event": (
        settings(ALLOWED_EVENTS="contact.creation:email"), WARNING, "ALLOWED_EVENTS has an entry that no event matches"
    ),
    "another program at PUBLIC_URL": (response(200), FAULT, "Another program answers there"),
    "redirect at PUBLIC_URL": (response(301), FAULT, "HubSpot follows no redirect"),
    "proxy without its web process": (response(502), FAULT, "The proxy does not reach the web process"),
    "proxy with a small limit": (response(413), FAULT, "Raise its limit to MAX_BODY_BYTES"),
    "blocked after wrong signatures": (response(429), FAULT, "too many wrong signatures"),
    "processes that died": (dead_processes, WARNING, "0 web, 0 worker"),
    "late imports": (late_imports, WARNING, "workers do not keep up"),
    "host that fails": (failing_host, WARNING, "The host https://erp.example.com fails calls"),
    "alert of another version": (alert_of_another_version, WARNING, "alert_of_tomorrow is active"),
    "lost table": (dropped_table, WARNING, "the table audit_records is missing"),
    "file that is no database": (file_that_is_no_database, WARNING, "the file is no SQLite database"),
    "pauses of calls of another type": (wrong_type(keys.PAUSED_CALLS), FAULT, keys.PAUSED_CALLS),
    "imports of another type": (wrong_type(keys.IMPORT_QUEUE), FAULT, keys.IMPORT_QUEUE),
}  # fmt: skip


@pytest.mark.parametrize("name", BREAKAGES)
async def test_breakage_is_named_with_what_to_do(deployment: Deployment, name: str) -> None:
    await assert_is_named(deployment, BREAKAGES[name])


@pytest.mark.parametrize(
    "name",
    [
        "PATH",
        "DATABASE_CONNECTION_POOL_URL",
        "HUBSPOT_PORTAL_ID",
        "SENTRY_RELEASE",
        "PORTS",
        "AUDITOR",
    ],
)
def test_variables_of_other_programs_are_left_alone(name: str) -> None:
    assert list(misspelt({name: "x"}, NAMES)) == []


def test_former_value_beside_the_setting_is_left_alone() -> None:
    environ = {"HUBSPOT_ACCESS_TOKEN": "x", "HUBSPOT_ACCESS_TOKENS": "y", "REDIS_URL": "x", "REDIS_TLS_URL": "y"}
    assert list(misspelt(environ, NAMES)) == []
