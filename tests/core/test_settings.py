"""spokes.core.settings: what the environment may say, and how faults are told."""

import stat
from pathlib import Path
from typing import get_args

import pytest

from spokes.console.accounts.policy import Role
from spokes.core.errors import ConfigurationError
from spokes.core.settings import RoleName, Settings

NEEDS = ("HUBSPOT_CLIENT_SECRET", "PUBLIC_URL")


def problems(environ: dict[str, str], needs: tuple[str, ...] = ()) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as fault:
        Settings.from_env(environ, required=needs)
    return fault.value.problems


def test_all_faults_are_reported_at_once() -> None:
    found = problems({"PORT": "high", "LOG_LEVEL": "loud"}, NEEDS)
    assert [fault.split()[0] for fault in found] == ["HUBSPOT_CLIENT_SECRET", "LOG_LEVEL", "PORT", "PUBLIC_URL"]


@pytest.mark.parametrize("secret", ["", "   ", ",", " , "])
def test_blank_secret_is_refused(secret: str) -> None:
    assert (
        "HUBSPOT_CLIENT_SECRET"
        in problems({"HUBSPOT_CLIENT_SECRET": secret, "PUBLIC_URL": "https://a.example"}, NEEDS)[0]
    )


def test_access_token_in_place_of_the_secret_is_named() -> None:
    (fault,) = problems({"HUBSPOT_CLIENT_SECRET": "pat-na1-0123456789abcdef"})
    assert "access token" in fault


@pytest.mark.parametrize("secret", ['"3f6d0c2e-8b1a-4e57"', "'3f6d0c2e-8b1a-4e57'", "Bearer 3f6d0c2e-8b1a-4e57"])
def test_secret_that_was_copied_with_more_is_refused(secret: str) -> None:
    (fault,) = problems({"HUBSPOT_CLIENT_SECRET": secret})
    assert "copy the secret alone" in fault


def test_access_token_of_any_form_is_not_taken_for_the_secret() -> None:
    token = "CJSP5qf1KhICAQEYs-gDIIGOBii1hQIyGQAf3xBKmlwHjX7O"
    (fault,) = problems({"HUBSPOT_CLIENT_SECRET": token, "HUBSPOT_ACCESS_TOKEN": token})
    assert fault.startswith("HUBSPOT_CLIENT_SECRET is HUBSPOT_ACCESS_TOKEN")


def test_fault_does_not_repeat_the_value() -> None:
    assert "pat-na1" not in problems({"HUBSPOT_CLIENT_SECRET": "pat-na1-0123456789abcdef"})[0]


def test_several_secrets_are_separated_by_commas() -> None:
    settings = Settings.from_env({"HUBSPOT_CLIENT_SECRET": "new-secret, old-secret"})
    assert settings.client_secrets == ("new-secret", "old-secret")


@pytest.mark.parametrize(
    "url",
    [
        "https://a.example",
        "https://a.example/",
        "https://a.example/webhooks/hubspot",
        "https://a.example/webhooks/hubspot/",
    ],
)
def test_public_url_may_be_the_base_or_the_whole_target(url: str) -> None:
    assert Settings.from_env({"PUBLIC_URL": url}).public_url == "https://a.example"


@pytest.mark.parametrize("url", ["a.example", "ftp://a.example", "https://", "https://a.example?x=1"])
def test_public_url_must_be_a_url(url: str) -> None:
    assert "PUBLIC_URL" in problems({"PUBLIC_URL": url})[0]


def test_heroku_database_url_works_as_it_comes() -> None:
    address = Settings.from_env({"DATABASE_URL": "postgres://u:p@h:5432/d"}).database_address
    assert address == "postgresql+asyncpg://u:p@h:5432/d"


def test_without_database_url_the_audit_is_sqlite_in_data_dir(tmp_path: Path) -> None:
    address = Settings.from_env({"DATA_DIR": str(tmp_path)}).database_address
    assert address == f"sqlite+aiosqlite:///{tmp_path}/audit.sqlite"


def test_socket_of_a_deep_data_dir_is_short_enough_for_a_kernel(tmp_path: Path) -> None:
    assert len(str(Settings.from_env({"DATA_DIR": str(tmp_path / ("deep" * 30))}).embedded_socket)) < 104


def test_secrets_do_not_show_in_the_settings_text() -> None:
    settings = Settings.from_env(
        {"HUBSPOT_CLIENT_SECRET": "very-secret", "REDIS_URL": "redis://:pass@h", "AUDIT_KEY": "kkkk"}
    )
    assert not any(secret in repr(settings) for secret in ("very-secret", "pass", "kkkk"))


def test_master_key_is_made_once_and_private(tmp_path: Path) -> None:
    environ = {"DATA_DIR": str(tmp_path / "data")}
    first, second = Settings.from_env(environ).master_key(), Settings.from_env(environ).master_key()
    assert first == second
    assert stat.S_IMODE((tmp_path / "data" / "audit.key").stat().st_mode) == 0o600


OIDC = {"OIDC_ISSUER": "https://login.example.com/", "OIDC_ROLES": "ops team=operator, ada@example.com = admin"}


def test_identity_provider_gives_roles_by_pairs() -> None:
    settings = Settings.from_env(OIDC)
    assert settings.oidc_issuer == "https://login.example.com/"
    assert settings.oidc_roles == (("ops team", "operator"), ("ada@example.com", "admin"))


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"OIDC_ISSUER": "http://login.example.com"}, "OIDC_ISSUER"),
        ({"OIDC_ISSUER": "https://login.example.com?x=1"}, "OIDC_ISSUER"),
        ({"OIDC_ROLES": ""}, "OIDC_ROLES"),
        ({"OIDC_ROLES": "operator"}, "OIDC_ROLES"),
        ({"OIDC_ROLES": "=operator"}, "OIDC_ROLES"),
        ({"OIDC_ROLES": "ops=owner"}, "OIDC_ROLES"),
        ({"OIDC_CLIENT_ID": "console"}, "PUBLIC_URL"),
        ({"OIDC_CLIENT_SECRET": "secret"}, "OIDC_CLIENT_ID"),
        ({"OIDC_AUDIENCE": "x", "OIDC_CLIENT_ID": "x", "PUBLIC_URL": "https://a.example"}, "OIDC_AUDIENCE"),
    ],
)
def test_identity_provider_that_is_half_described_is_refused(given: dict[str, str], named: str) -> None:
    assert problems({**OIDC, **given})[0].startswith(named)


def test_roles_that_can_be_given_are_those_there_are() -> None:
    assert get_args(RoleName) == tuple(Role)


def test_environment_is_not_read_behind_the_callers_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "9999")
    assert Settings.from_env({}).port == 8080
