"""spokes.core.settings.fields: parsing of the environment, and the sentence for each problem."""

from pathlib import Path
from typing import get_args

import pytest

from spokes.console.accounts.policy import Role
from spokes.core.errors import ConfigurationError
from spokes.core.settings import RoleName, Settings

REQUIRED = ("HUBSPOT_CLIENT_SECRET", "PUBLIC_URL")


def problems(environ: dict[str, str], required: tuple[str, ...] = ()) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as error:
        Settings.from_env(environ, required=required)
    return error.value.problems


def test_all_problems_are_reported_at_once() -> None:
    reported = problems({"PORT": "high", "LOG_LEVEL": "loud"}, REQUIRED)
    assert [sentence.split()[0] for sentence in reported] == [
        "HUBSPOT_CLIENT_SECRET",
        "LOG_LEVEL",
        "PORT",
        "PUBLIC_URL",
    ]


@pytest.mark.parametrize("secret", ["", "   ", ",", " , "])
def test_blank_secret_is_refused(secret: str) -> None:
    assert (
        "HUBSPOT_CLIENT_SECRET"
        in problems({"HUBSPOT_CLIENT_SECRET": secret, "PUBLIC_URL": "https://a.example"}, REQUIRED)[0]
    )


def test_access_token_given_as_client_secret_is_recognised() -> None:
    (problem,) = problems({"HUBSPOT_CLIENT_SECRET": "pat-na1-0123456789abcdef"})
    assert "access token" in problem


@pytest.mark.parametrize("secret", ['3f6d0c2e"-8b1a-4e57', "3f6d'0c2e-8b1a-4e57", "Bearer 3f6d0c2e-8b1a-4e57"])
def test_secret_copied_with_surrounding_text_is_refused(secret: str) -> None:
    (problem,) = problems({"HUBSPOT_CLIENT_SECRET": secret})
    assert "copy only the secret" in problem


def test_access_token_of_any_form_is_refused_as_client_secret() -> None:
    token = "CJSP5qf1KhICAQEYs-gDIIGOBii1hQIyGQAf3xBKmlwHjX7O"
    (problem,) = problems({"HUBSPOT_CLIENT_SECRET": token, "HUBSPOT_ACCESS_TOKEN": token})
    assert problem.startswith("HUBSPOT_CLIENT_SECRET equals HUBSPOT_ACCESS_TOKEN")


def test_problem_does_not_repeat_the_value() -> None:
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
def test_public_url_may_be_the_base_or_the_target_url(url: str) -> None:
    assert Settings.from_env({"PUBLIC_URL": url}).public_url == "https://a.example"


@pytest.mark.parametrize("url", ["a.example", "ftp://a.example", "https://", "https://a.example?x=1"])
def test_public_url_must_be_a_url(url: str) -> None:
    assert "PUBLIC_URL" in problems({"PUBLIC_URL": url})[0]


def test_heroku_database_url_is_accepted_unchanged() -> None:
    address = Settings.from_env({"DATABASE_URL": "postgres://u:p@h:5432/d"}).database_address
    assert address == "postgresql+asyncpg://u:p@h:5432/d"


def test_without_database_url_the_audit_is_sqlite_in_data_dir(tmp_path: Path) -> None:
    address = Settings.from_env({"DATA_DIR": str(tmp_path)}).database_address
    assert address == f"sqlite+aiosqlite:///{tmp_path}/audit.sqlite"


def test_socket_of_a_deep_data_dir_is_short_enough_for_a_kernel(tmp_path: Path) -> None:
    assert len(str(Settings.from_env({"DATA_DIR": str(tmp_path / ("deep" * 30))}).embedded_socket)) < 104


def test_secrets_are_not_in_the_repr_of_settings() -> None:
    settings = Settings.from_env(
        {"HUBSPOT_CLIENT_SECRET": "very-secret", "REDIS_URL": "redis://:pass@h", "AUDIT_KEY": "kkkk"}
    )
    assert not any(secret in repr(settings) for secret in ("very-secret", "pass", "kkkk"))


OIDC = {"OIDC_ISSUER": "https://login.example.com/", "OIDC_ROLES": "ops team=operator, ada@example.com = admin"}


def test_roles_of_an_identity_provider_are_parsed_as_pairs() -> None:
    settings = Settings.from_env(OIDC)
    assert settings.oidc_issuer == "https://login.example.com/"
    assert settings.oidc_roles == (("ops team", "operator"), ("ada@example.com", "admin"))


@pytest.mark.parametrize(
    ("changes", "named"),
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
def test_incomplete_identity_provider_is_refused(changes: dict[str, str], named: str) -> None:
    assert problems({**OIDC, **changes})[0].startswith(named)


def test_role_names_of_settings_are_the_console_roles() -> None:
    assert get_args(RoleName) == tuple(Role)


def test_from_env_reads_only_the_given_mapping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "9999")
    assert Settings.from_env({}).port == 8080
