"""Secrets that are kept: sealed, opened by any key, resealed by the newest."""

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


@given(st.text())
def test_what_was_sealed_is_opened(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:  # no secret has half a character
        return
    assert Vault(["a key"]).open(Vault(["a key"]).seal(text)) == text


def test_seal_does_not_show_the_secret() -> None:
    assert b"refresh-token" not in Vault(["a key"]).seal("refresh-token")


def test_older_key_still_opens() -> None:
    assert Vault(["new", "old"]).open(Vault(["old"]).seal("x")) == "x"


def test_seal_of_another_key_is_unreadable() -> None:
    with pytest.raises(SecretUnreadable):
        Vault(["a key"]).open(Vault(["another"]).seal("x"))


@pytest.mark.parametrize("plain", [b"plain text", b""])
def test_plain_text_is_unreadable(plain: bytes) -> None:
    with pytest.raises(SecretUnreadable):
        Vault(["a key"]).open(plain)


def test_changed_seal_is_unreadable() -> None:
    sealed = bytearray(Vault(["a key"]).seal("x"))
    sealed[20] ^= 1
    with pytest.raises(SecretUnreadable):
        Vault(["a key"]).open(bytes(sealed))


def test_vault_of_a_deployment_takes_its_keys_from_the_environment(environ: dict[str, str]) -> None:
    vault = Vault.from_settings(Settings.from_env({**environ, "SECRETS_KEY": "new, old"}))
    assert [vault.uses_newest_key(Vault([key]).seal("x")) for key in ("new", "old")] == [True, False]


def test_vault_without_a_key_of_its_own_has_one_of_the_deployment(settings: Settings) -> None:
    assert Vault.from_settings(settings).open(Vault.from_settings(settings).seal("x")) == "x"


async def test_kept_secret_is_read_again(redis: Redis) -> None:
    secrets = StoredSecrets(redis, Vault(["a key"]))
    await secrets.put(PORTAL, "refresh_token", "na1-1234")
    assert await secrets.read(PORTAL, "refresh_token") == "na1-1234"


async def test_dropped_secret_is_gone(redis: Redis) -> None:
    secrets = StoredSecrets(redis, Vault(["a key"]))
    await secrets.put(PORTAL, "refresh_token", "na1-1234")
    assert (await secrets.delete(PORTAL, "refresh_token"), await secrets.read(PORTAL, "refresh_token")) == (True, None)


async def test_resealing_makes_older_keys_dispensable(redis: Redis) -> None:
    await StoredSecrets(redis, Vault(["old"])).put(PORTAL, "refresh_token", "na1-1234")
    resealed = await StoredSecrets(redis, Vault(["new", "old"])).reseal()
    assert (resealed, await StoredSecrets(redis, Vault(["new"])).read(PORTAL, "refresh_token")) == ((1, []), "na1-1234")


async def test_resealing_leaves_what_no_key_opens(redis: Redis) -> None:
    await StoredSecrets(redis, Vault(["lost"])).put(PORTAL, "refresh_token", "na1-1234")
    count, unreadable = await StoredSecrets(redis, Vault(["new"])).reseal()
    assert (count, [one.name for one in unreadable]) == (0, ["refresh_token"])
    assert await StoredSecrets(redis, Vault(["lost"])).read(PORTAL, "refresh_token") == "na1-1234"


@pytest.mark.parametrize(
    ("key", "level"), [("new", FindingLevel.OK), ("old", FindingLevel.WARNING), ("lost", FindingLevel.FAULT)]
)
def test_doctor_names_what_is_not_sealed_by_the_newest_key(key: str, level: FindingLevel) -> None:
    kept = [StoredSecret(PORTAL, "refresh_token", Vault([key]).seal("x"))]
    found = assess_secrets(kept, Vault(["new", "old"]))
    assert max((finding.level for finding in found), key=[*FindingLevel].index) is level


def test_doctor_finds_plain_text_and_does_not_show_it() -> None:
    found, *_ = assess_secrets([StoredSecret(PORTAL, "refresh_token", b"na1-plain-text")], Vault(["new"]))
    assert (found.level, "na1" in found.sentence) == (FindingLevel.FAULT, False)
