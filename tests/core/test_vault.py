"""Secrets that are kept: sealed, opened by any key, resealed by the newest."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from spokes.console.doctor.findings import Level
from spokes.console.doctor.secrets_check import judge_secrets
from spokes.core.errors import SecretUnreadable
from spokes.core.settings import Settings
from spokes.core.vault import Vault
from spokes.crm.transport.stored_secrets import Kept, Secrets

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
    vault = Vault.of(Settings.from_env({**environ, "SECRETS_KEY": "new, old"}))
    assert [vault.is_newest(Vault([key]).seal("x")) for key in ("new", "old")] == [True, False]


def test_vault_without_a_key_of_its_own_has_one_of_the_deployment(settings: Settings) -> None:
    assert Vault.of(settings).open(Vault.of(settings).seal("x")) == "x"


async def test_kept_secret_is_read_again(redis: Redis) -> None:
    secrets = Secrets(redis, Vault(["a key"]))
    await secrets.keep(PORTAL, "refresh_token", "na1-1234")
    assert await secrets.read(PORTAL, "refresh_token") == "na1-1234"


async def test_dropped_secret_is_gone(redis: Redis) -> None:
    secrets = Secrets(redis, Vault(["a key"]))
    await secrets.keep(PORTAL, "refresh_token", "na1-1234")
    assert (await secrets.drop(PORTAL, "refresh_token"), await secrets.read(PORTAL, "refresh_token")) == (True, None)


async def test_resealing_makes_older_keys_dispensable(redis: Redis) -> None:
    await Secrets(redis, Vault(["old"])).keep(PORTAL, "refresh_token", "na1-1234")
    resealed = await Secrets(redis, Vault(["new", "old"])).reseal()
    assert (resealed, await Secrets(redis, Vault(["new"])).read(PORTAL, "refresh_token")) == ((1, []), "na1-1234")


async def test_resealing_leaves_what_no_key_opens(redis: Redis) -> None:
    await Secrets(redis, Vault(["lost"])).keep(PORTAL, "refresh_token", "na1-1234")
    count, unreadable = await Secrets(redis, Vault(["new"])).reseal()
    assert (count, [one.name for one in unreadable]) == (0, ["refresh_token"])
    assert await Secrets(redis, Vault(["lost"])).read(PORTAL, "refresh_token") == "na1-1234"


@pytest.mark.parametrize(("key", "level"), [("new", Level.OK), ("old", Level.WARNING), ("lost", Level.FAULT)])
def test_doctor_names_what_is_not_sealed_by_the_newest_key(key: str, level: Level) -> None:
    kept = [Kept(PORTAL, "refresh_token", Vault([key]).seal("x"))]
    found = judge_secrets(kept, Vault(["new", "old"]))
    assert max((finding.level for finding in found), key=[*Level].index) is level


def test_doctor_finds_plain_text_and_does_not_show_it() -> None:
    found, *_ = judge_secrets([Kept(PORTAL, "refresh_token", b"na1-plain-text")], Vault(["new"]))
    assert (found.level, "na1" in found.sentence) == (Level.FAULT, False)
