"""`secrets fingerprints`: the names by which the audit refers to HubSpot's secrets."""

import orjson

from spokes.core.settings import Settings
from spokes.core.telemetry.secret_ages import token_fingerprint
from tests.support.command_line import spokes
from tests.support.deployment import KEY, SECRET, TOKEN

ENVIRON = {"AUDIT_KEY": KEY, "HUBSPOT_ACCESS_TOKEN": TOKEN, "HUBSPOT_CLIENT_SECRET": SECRET}


def test_fingerprints_are_shown_without_the_secrets() -> None:
    shown = spokes(ENVIRON, "secrets", "fingerprints")
    assert (shown.returncode, token_fingerprint(Settings.from_env(ENVIRON)) in shown.stdout) == (0, True), shown
    assert (TOKEN in shown.stdout, SECRET in shown.stdout) == (False, False)


def test_another_token_has_another_fingerprint() -> None:
    documents = [
        [orjson.loads(line) for line in spokes(environ, "secrets", "fingerprints", "--json").stdout.splitlines()]
        for environ in (ENVIRON, {**ENVIRON, "HUBSPOT_ACCESS_TOKEN": "another-token-that-is-long-enough"})
    ]
    old, new = ({item["variable"]: item["fingerprint"] for item in items} for items in documents)
    assert old["HUBSPOT_CLIENT_SECRET"] == new["HUBSPOT_CLIENT_SECRET"]
    assert old["HUBSPOT_ACCESS_TOKEN"] != new["HUBSPOT_ACCESS_TOKEN"]


def test_deployment_without_secrets_has_no_fingerprints() -> None:
    shown = spokes({"AUDIT_KEY": KEY}, "secrets", "fingerprints")
    assert (shown.returncode, "No HubSpot secret is set" in shown.stderr) == (0, True)
