"""`doctor` names what handlers register for and HubSpot does not send."""

import json

from redis.asyncio import Redis

from spokes.console.doctor.subscriptions.drift_check import assess_drifts
from spokes.routing import load_router
from spokes.subscriptions.drift.findings import Drift, DriftKind, Severity
from tests.support.command_line import spokes
from tests.support.deployment import PUBLIC_URL
from tests.support.registrations import register


def findings(environ: dict[str, str], *options: str) -> dict[str, dict[str, object]]:
    """Return doctor's findings about subscriptions by their drift; HubSpot is not asked."""
    done = spokes({**environ, "HUBSPOT_API_URL": "http://127.0.0.1:1"}, "doctor", "--json", *options)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return {each["figures"]["drift"] if "figures" in each else each["level"]: each
            for each in found if each["topic"] == "subscriptions"}  # fmt: skip


async def test_registration_without_event_is_listed_after_a_week_with_what_to_check(
    environ: dict[str, str], redis: Redis, migrated_store: None
) -> None:
    await register(redis, 8)
    found = findings(environ)
    assert found.keys() == {"never_arrived", "target_never_reached"}
    assert found["never_arrived"]["level"] == "info"
    assert found["never_arrived"]["figures"] == {
        "drift": "never_arrived", "subjects": dict.fromkeys(sorted(load_router("handlers").registrations), "8 days"),
    }  # fmt: skip
    assert "contact.creation (8 days)" in str(found["never_arrived"]["sentence"])
    assert f"{PUBLIC_URL}/webhooks/hubspot (no event for 192 h)" in str(found["target_never_reached"]["sentence"])
    assert findings(environ, "--quiet").keys() == {"target_never_reached"}


async def test_young_registrations_are_not_listed(environ: dict[str, str], redis: Redis, migrated_store: None) -> None:
    await register(redis, 0)
    assert findings(environ).keys() == {"ok"}


async def test_registrations_of_other_handlers_are_not_listed(
    environ: dict[str, str], redis: Redis, migrated_store: None
) -> None:
    await register(redis, 8)
    found = findings({**environ, "HANDLERS": "tests.console.doctor.creation_handlers"})
    assert found["never_arrived"]["figures"]["subjects"] == {"contact.creation": "8 days"}  # type: ignore[index]


async def test_unreachable_audit_store_is_left_to_its_own_check(environ: dict[str, str], redis: Redis) -> None:
    assert findings({**environ, "HUBSPOT_APP_ID": "7"}) == {}


def test_drift_is_a_warning_and_a_notice_is_information() -> None:
    subjects = {f"portal {number}": "" for number in range(25)}
    fault, notice = assess_drifts(
        [Drift(DriftKind.STOPPED, Severity.FAULT, subjects), Drift(DriftKind.NO_TARGET, Severity.NOTICE, {"a": "b"})]
    )
    assert (fault.level.value, notice.level.value) == ("warning", "info")
    assert fault.sentence.endswith("portal 19 and 5 more.")
