"""spokes.core.vault and stored secrets: sealed, opened by any key, resealed with the newest."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from spokes.console.doctor.findings import FindingLevel
from spokes.console.doctor.secrets_check import assess_secrets
from spokes.core.errors import SecretUnreadable
from spokes.core.settings import Settings
from spokes.core.vault import Vault
from spokes.crm.transport.stored_secrets import StoredSecret, StoredSecrets

PORTAL = 50112233

NEW = "3f6d0c2e8b1a4e579c347a5e2d10b9f8"


@given(st.text())
def test_sealed_text_can_be_opened(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate is not valid text
        return
    assert Vault(["a key"]).open(Vault(["a key"]).seal(text)) == text


def test_sealed_form_does_not_contain_the_secret() -> None:
    assert b"refresh-token" not in Vault(["a key"]).seal("refresh-token")


def test_older_key_still_opens() -> None:
    assert Vault(["new", "old"]).open(Vault(["old"]).seal("x")) == "x"


def test_secret_sealed_with_an_unknown_key_is_unreadable() -> None:
    with pytest.raises(SecretUnreadable):
        Vault(["a key"]).open(Vault(["another"]).seal("x"))


@pytest.mark.parametrize("plain", [b"plain text", b""])
def test_plain_text_is_unreadable(plain: bytes) -> None:
    with pytest.raises(SecretUnreadable):
        Vault(["a key"]).open(plain)


def test_changed_sealed_secret_is_unreadable() -> None:
    sealed = bytearray(Vault(["a key"]).seal("x"))
    sealed[20] ^= 1
    with pytest.raises(SecretUnreadable):
        Vault(["a key"]).open(bytes(sealed))


def test_vault_uses_the_keys_in_secrets_key(environ: dict[str, str]) -> None:
    vault = Vault.from_settings(Settings.from_env({**environ, "SECRETS_KEY": f"{NEW}, old"}))
    assert [vault.uses_newest_key(Vault([key]).seal("x")) for key in (NEW, "old")] == [True, False]


def test_vault_uses_the_master_key_without_secrets_key(settings: Settings) -> None:
    assert Vault.from_settings(settings).open(Vault.from_settings(settings).seal("x")) == "x"


async def test_stored_secret_can_be_read(redis: Redis) -> None:
    secrets = StoredSecrets(redis, Vault(["a key"]))
    await secrets.put(PORTAL, "refresh_token", "na1-1234")
    assert await secrets.read(PORTAL, "refresh_token") == "na1-1234"


async def test_deleted_secret_is_gone(redis: Redis) -> None:
    secrets = StoredSecrets(redis, Vault(["a key"]))
    await secrets.put(PORTAL, "refresh_token", "na1-1234")
    assert (await secrets.delete(PORTAL, "refresh_token"), await secrets.read(PORTAL, "refresh_token")) == (True, None)


async def test_older_keys_are_not_needed_after_resealing(redis: Redis) -> None:
    await StoredSecrets(redis, Vault(["old"])).put(PORTAL, "refresh_token", "na1-1234")
    resealed = await StoredSecrets(redis, Vault(["new", "old"])).reseal()
    assert (resealed, await StoredSecrets(redis, Vault(["new"])).read(PORTAL, "refresh_token")) == ((1, []), "na1-1234")


async def test_resealing_keeps_secrets_that_no_key_opens(redis: Redis) -> None:
    await StoredSecrets(redis, Vault(["lost"])).put(PORTAL, "refresh_token", "na1-1234")
    count, unreadable = await StoredSecrets(redis, Vault(["new"])).reseal()
    assert (count, [secret.name for secret in unreadable]) == (0, ["refresh_token"])
    assert await StoredSecrets(redis, Vault(["lost"])).read(PORTAL, "refresh_token") == "na1-1234"


@pytest.mark.parametrize(
    ("key", "level"), [("new", FindingLevel.OK), ("old", FindingLevel.WARNING), ("lost", FindingLevel.FAULT)]
)
def test_doctor_reports_secrets_not_sealed_with_the_newest_key(key: str, level: FindingLevel) -> None:
    stored = [StoredSecret(PORTAL, "refresh_token", Vault([key]).seal("x"))]
    findings = assess_secrets(stored, Vault(["new", "old"]))
    assert max((finding.level for finding in findings), key=[*FindingLevel].index) is level


def test_doctor_reports_plain_text_without_showing_it() -> None:
    finding, *_ = assess_secrets([StoredSecret(PORTAL, "refresh_token", b"na1-plain-text")], Vault(["new"]))
    assert (finding.level, "na1" in finding.sentence) == (FindingLevel.FAULT, False)
