"""`secrets fingerprints`: the names by which the audit refers to HubSpot's secrets."""

import asyncio

import orjson
from pydantic import SecretStr

from spokes.audit.sql import schema
from spokes.audit.sql.engine import open_engine
from spokes.core.settings import Settings
from spokes.core.telemetry.secret_ages import fingerprinter, token_fingerprint
from spokes.core.vault import Vault
from spokes.portals.store import PortalStore
from spokes.portals.tokens import Tokens
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


def test_tokens_of_portals_are_resealed(environ: dict[str, str]) -> None:
    old, new = "first-key-of-the-vault-0123456789ab", "newer-key-of-the-vault-0123456789ab"
    environ |= {"HUBSPOT_CLIENT_ID": "7f1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d", "SECRETS_KEY": f"{new},{old}"}
    address = Settings.from_env(environ).database_address
    tokens = Tokens(SecretStr("access"), SecretStr("refresh"), 1)

    async def prepare() -> None:
        engine = open_engine(address)
        await schema.upgrade(engine)
        await PortalStore(engine, Vault([old])).save_install(7, tokens, ["oauth"])
        await engine.dispose()

    async def read() -> Tokens | None:
        engine = open_engine(address)
        stored = await PortalStore(engine, Vault([new])).tokens(7)
        await engine.dispose()
        return stored

    asyncio.run(prepare())
    listed = orjson.loads(spokes(environ, "secrets", "list", "--json").stdout)
    assert listed == {"portal_id": 7, "name": "oauth_tokens", "newest_key": False}
    named = spokes(environ, "secrets", "fingerprints", "--portal", "7", "--json").stdout.splitlines()
    own = fingerprinter(Settings.from_env(environ))
    assert [orjson.loads(line)["fingerprint"] for line in named] == [own("access"), own("refresh")]
    shown = spokes(environ, "secrets", "reseal", "--json")
    assert (shown.returncode, orjson.loads(shown.stdout)) == (0, {"resealed": 1, "unreadable": []}), shown
    assert asyncio.run(read()) == tokens
