"""Any text in any variable is accepted, or refused in a sentence that names the variable and quotes no value."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy.engine import make_url

from spokes.audit.sql.engine import open_engine
from spokes.core.errors import ConfigurationError
from spokes.core.redis.connections import redis_pool
from spokes.core.settings import Settings
from spokes.core.settings.strength import is_distinctive

VARIABLES = [name.upper() for name in Settings.model_fields]
URLS = ["REDIS_URL", "DATABASE_URL", "PUBLIC_URL", "HUBSPOT_API_URL", "SENTRY_DSN", "OIDC_ISSUER", "ALERT_WEBHOOK_URL"]
REFUSED = [
    ("PORT", "many", "whole number, such as 8080"),
    ("PORT", "70000", "at most 65535"),
    ("PORT", "-1", "at least 0"),
    ("PORT", "8080.5", "whole number"),
    ("DEDUPE_HOURS", "1", "at least 25"),
    ("DEDUPE_HOURS", "9" * 30, "at most"),
    ("MAX_BACKLOG", "0", "at least 1"),
    ("HUBSPOT_TIMEOUT_S", "nan", "at most 3600"),
    ("HUBSPOT_TIMEOUT_S", "inf", "at most 3600"),
    ("HUBSPOT_TIMEOUT_S", "soon", "number, such as 20.0"),
    ("HUBSPOT_TIMEOUT_S", "0", "more than 0"),
    ("RETRY_SCHEDULE_S", "2,x", "number, such as 2,10,60"),
    ("RETRY_SCHEDULE_S", "-1", "at least 0"),
    ("PORTAL_IDS", "50112233;2", "whole number"),
    ("PORTAL_IDS", "0", "at least 1"),
    ("PORTAL_IDS", " , ", "commas only"),
    ("PORTAL_IDS", "50112233_60445566", "separated by commas"),
    ("ALLOWED_ADDRESSES", ",", "commas only"),
    ("SECRETS_KEY", ",,", "commas only"),
    ("METRICS_TOKEN", "Bearer 3f6d0c2e8b1a4e57", "no blanks"),
    ("METRICS_TOKEN", "geheimes-schlüsselwort-07", "in a header"),
    ("DEFAULT_REGION", "UK", "GB for the United Kingdom"),
    ("DATA_DIR", "~/spokes", "only a shell replaces"),
    ("REDIS_URL", "redis://cache:0", "from 1 to 65535"),
    ("REDIS_URL", "redis://cache?db=1&db=2", "two values"),
    ("DATABASE_URL", "postgres://h/d?port=65536", "from 1 to 65535"),
    ("DATABASE_URL", "postgres://h/d?sslmode=require&sslmode=disable", "two values"),
    ("DATABASE_URL", "postgres://h/d?sslmode=verify-full", "sslrootcert=system"),
    ("DATABASE_URL", "postgresql:///", "names no server"),
    ("REDIS_TLS_VERIFY", "maybe", "1 or 0"),
    ("LOG_LEVEL", "loud", "'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
    ("SIGNATURE_VERSIONS", "v4", "'v1', 'v2' or 'v3'"),
    ("ALLOWED_ADDRESSES", "example.com", "203.0.113.0/24"),
    ("ALLOWED_ADDRESSES", "10.0.0.1/8", "203.0.113.0/24"),
    ("ALLOWED_EVENTS", "contact", "contact.creation"),
    ("HUBSPOT_API_VERSION", "4", "2026-09"),
    ("HUBSPOT_API_URL", "http://simulator:8900", "https"),
    ("HUBSPOT_API_URL", "http://127.0.0.1.example.com", "https"),
    ("HUBSPOT_API_URL", "api.hubapi.com", "no scheme"),
    ("HUBSPOT_API_URL", "https://api.hubapi.com?x=1", "query"),
    ("HUBSPOT_APP_URL", "http://app.hubspot.example", "log in to HubSpot"),
    ("HUBSPOT_APP_URL", "app.hubspot.com", "no scheme"),
    ("HUBSPOT_APP_ID", "my-app", "whole number"),
    ("HUBSPOT_CLIENT_ID", "a b", "Auth page"),
    ("HUBSPOT_CLIENT_ID", "abc", "Auth page"),
    ("HUBSPOT_OPTIONAL_SCOPES", "crm.objects.deals.read;tickets", "separated by commas"),
    ("HUBSPOT_OPTIONAL_SCOPES", "crm..read", "separated by commas"),
    ("UNINSTALLED_DAYS", "-1", "at least 0"),
    ("PUBLIC_URL", "https://user:pass@a.example", "user"),
    ("SENTRY_DSN", "none", "Sentry shows"),
    ("SENTRY_DSN", "https://o1.ingest.sentry.io/2", "Sentry shows"),
    ("SENTRY_DSN", "https://key@o1.ingest.sentry.io/project", "Sentry shows"),
    ("SENTRY_DSN", "https://key@o1.ingest.sentry.io:port/2", "Sentry shows"),
    ("SENTRY_DSN", "true", "Sentry shows"),
    ("METRICS_TOKEN", "x", "guess"),
    ("METRICS_TOKEN", "password12345", "guess"),
    ("METRICS_TOKEN", "abababababababab", "guess"),
    ("ALERT_WEBHOOK_SECRET", "secret", "guess"),
    ("SECRETS_KEY", "k", "guess"),
    ("SECRETS_KEY", "short,3f6d0c2e8b1a4e579c347a5e2d10b9f8", "guess"),
    ("CONSOLE_KEY", "0123456789abcdef", "32 characters"),
    ("HUBSPOT_CLIENT_SECRET", "abc", "too short"),
    ("HUBSPOT_ACCESS_TOKEN", "abc", "too short"),
    ("HUBSPOT_ACCESS_TOKEN", "pat-na1-tökentökentöken", "copy it again"),
    ("HUBSPOT_ACCESS_TOKEN", "Bearer pat-na1-0123", "blank"),
    ("HUBSPOT_ACCESS_TOKEN", '"pat-na1-0123456789"', "quotation marks"),
    ("HANDLERS", "my-handlers", "Python package"),
    ("HANDLERS", "../handlers", "Python package"),
    ("HOST", "http://0.0.0.0", "address of this machine"),
    ("DEFAULT_REGION", "us", "two capital letters"),
    ("CONSOLE_ORIGINS", "https://ops.example.com/path", "without a path"),
    ("CONSOLE_ORIGINS", "*", "no scheme"),
    ("BLOCKED_EMAIL_DOMAINS", "ada@example.com", "example.com"),
    ("DATA_DIR", "data\nmore", "control character"),
    ("LOG_LEVEL", "INFO\udcff", "UTF-8"),
]
ACCEPTED = [
    ("HUBSPOT_API_URL", "http://127.0.0.1:8900"),
    ("HUBSPOT_API_URL", "http://[::1]:8900"),
    ("HUBSPOT_API_URL", "http://simulator.localhost:8900/"),
    ("HUBSPOT_API_URL", "https://api-eu1.hubapi.com"),
    ("HUBSPOT_APP_URL", "http://127.0.0.1:8900/"),
    ("UNINSTALLED_DAYS", "0"),
    ("SENTRY_DSN", "https://key@o1.ingest.sentry.io/2"),
    ("SENTRY_DSN", "https://public:secret@sentry.example.com/prefix/2"),
    ("METRICS_TOKEN", "3f6d0c2e8b1a4e57"),
    ("SECRETS_KEY", "3f6d0c2e8b1a4e579c347a5e2d10b9f8,old"),
    ("AUDIT_KEY", "k"),
    ("AUDIT_KEY", '"quoted"'),
    ("PORT", " 8080 "),
    ("REDIS_TLS_VERIFY", "yes"),
    ("DEFAULT_REGION", "GB"),
    ("PORTAL_IDS", "50112233, 60445566,"),
    ("DATABASE_URL", "postgres://h/d?sslmode=verify-full&sslrootcert=system"),
    ("DATABASE_URL", "postgres://h/d?sslmode=require&sslmode=require"),
    ("ALLOWED_EVENTS", "deal.merge,-contact.creation,contact.propertyChange:city,+2-123.creation"),
    ("CONSOLE_ORIGINS", "https://ops.example.com, http://localhost:3000"),
]
OAUTH = {
    "HUBSPOT_CLIENT_ID": "0c3f6d0c-2e8b-4e57",
    "HUBSPOT_CLIENT_SECRET": "3f6d0c2e-8b1a-4e57",
    "SECRETS_KEY": "3f6d0c2e8b1a4e579c347a5e2d10b9f8",
}
CONTRADICTIONS = [
    ({**OAUTH, "HUBSPOT_CLIENT_ID": OAUTH["HUBSPOT_CLIENT_SECRET"]}, "HUBSPOT_CLIENT_SECRET"),
    ({**OAUTH, "SECRETS_KEY": ""}, "SECRETS_KEY"),
    ({**OAUTH, "HUBSPOT_CLIENT_SECRET": ""}, "HUBSPOT_CLIENT_SECRET"),
    ({**OAUTH, "REDIS_URL": "redis://h"}, "HUBSPOT_CLIENT_ID"),
    ({"HUBSPOT_OPTIONAL_SCOPES": "tickets"}, "HUBSPOT_CLIENT_ID"),
    ({"SIGNATURE_MAX_AGE_S": "200000"}, "SIGNATURE_MAX_AGE_S"),
    ({"SIGNATURE_MAX_AGE_S": "90000", "DEDUPE_HOURS": "25"}, "SIGNATURE_MAX_AGE_S"),
    ({"SIGNATURE_MAX_SKEW_S": "172800"}, "SIGNATURE_MAX_AGE_S"),
    ({**OAUTH, "JOURNAL": "1"}, "DEDUPE_HOURS"),
    ({**OAUTH, "JOURNAL": "1", "DEDUPE_HOURS": "95"}, "DEDUPE_HOURS"),
    ({"HUBSPOT_CLIENT_SECRET": OAUTH["HUBSPOT_CLIENT_SECRET"], "JOURNAL": "1", "DEDUPE_HOURS": "96"},
     "HUBSPOT_CLIENT_ID"),
    ({"HUBSPOT_TIMEOUT_S": "90", "HANDLER_TIMEOUT_S": "60"}, "HUBSPOT_TIMEOUT_S"),
    ({"STREAM_DAYS": "30", "AUDIT_DAYS": "10"}, "STREAM_DAYS"),
    ({"AUDIT_BACKLOG": "100", "MAX_UNARCHIVED": "10"}, "AUDIT_BACKLOG"),
    ({"REDIS_TLS_VERIFY": "1", "REDIS_URL": "redis://h"}, "REDIS_TLS_VERIFY"),
    ({"REDIS_TLS_VERIFY": "1", "REDIS_URL": "rediss://h?ssl_cert_reqs=none"}, "REDIS_TLS_VERIFY"),
    ({"METRICS_TOKEN": "k3y-0f-th3-c0ns0l3-and-of-metrics", "CONSOLE_KEY": "k3y-0f-th3-c0ns0l3-and-of-metrics"},
     "METRICS_TOKEN"),
]  # fmt: skip


def problems(environ: dict[str, str]) -> tuple[str, ...]:
    """Return the sentences for `environ`; empty if it is accepted."""
    try:
        Settings.from_env(environ)
    except ConfigurationError as error:
        return error.problems
    return ()


@pytest.mark.parametrize(("name", "value", "named"), REFUSED)
def test_invalid_value_is_one_sentence_that_says_what_to_write(name: str, value: str, named: str) -> None:
    reported = [sentence for sentence in problems({name: value}) if sentence.startswith(f"{name} ")]
    assert len(reported) == 1
    assert named in reported[0]
    assert reported[0].endswith(".")


@pytest.mark.parametrize(("name", "value"), ACCEPTED)
def test_valid_value_is_accepted(name: str, value: str) -> None:
    assert problems({name: value}) == ()


@pytest.mark.parametrize(("environ", "named"), CONTRADICTIONS)
def test_settings_that_contradict_each_other_are_refused(environ: dict[str, str], named: str) -> None:
    [sentence] = problems(environ)
    assert sentence.startswith(named)


@pytest.mark.parametrize(
    "stores",
    [{}, {"REDIS_URL": "redis://h", "DATA_DIR": "/data"}, {"REDIS_URL": "redis://h", "DATABASE_URL": "postgres://h/n"}],
)
def test_installs_by_oauth_are_accepted_with_a_store_that_all_processes_share(stores: dict[str, str]) -> None:
    assert problems({**OAUTH, **stores}) == ()


def test_optional_scopes_are_separated_by_commas_or_blanks() -> None:
    settings = Settings.from_env({**OAUTH, "HUBSPOT_OPTIONAL_SCOPES": "tickets, crm.objects.deals.read  tickets"})
    assert settings.hubspot_optional_scopes == ("tickets", "crm.objects.deals.read")


def test_problems_of_every_kind_are_reported_together() -> None:
    refused = {name: value for name, value, _ in REFUSED}
    assert {sentence.split()[0] for sentence in problems(refused)} >= set(refused)


@given(name=st.sampled_from(VARIABLES), value=st.text())
@example(name="PORT", value="१२")
@example(name="LOG_LEVEL", value="\udcff")
def test_any_text_is_accepted_or_refused_in_a_sentence(name: str, value: str) -> None:
    for sentence in problems({name: value}):
        assert sentence.endswith(".")
        assert "\n" not in sentence
        assert sentence.split()[0].isupper()


@given(
    name=st.sampled_from(URLS),
    scheme=st.sampled_from(["redis", "rediss", "unix", "postgres", "sqlite", "https", "http", ""]),
    rest=st.text(st.sampled_from("aB0:/@?#&=%[],.-_ \u00fc~$!*'\"<\\"), max_size=30),
)
def test_any_url_is_refused_in_a_sentence_or_can_be_used(name: str, scheme: str, rest: str) -> None:
    value = f"{scheme}://{rest}"
    if problems({name: value}):
        return
    settings = Settings.from_env({name: value})
    redis_pool(settings)
    if make_url(settings.database_address).get_backend_name() == "postgresql":  # an engine of SQLite creates its file
        open_engine(settings.database_address)
    assert all(note.endswith(".") for note in settings.notes)


@given(name=st.sampled_from(VARIABLES), value=st.text(st.sampled_from("abcdefgh0123456789"), min_size=12))
def test_no_sentence_quotes_the_value(name: str, value: str) -> None:
    assert not [sentence for sentence in problems({name: f"x{value}!"}) if value in sentence]


@pytest.mark.parametrize("password", ["worker", "spokes", "postgres", "development", "contact.creation", "redis123"])
def test_ordinary_word_as_password_is_not_searched_for(password: str) -> None:
    settings = Settings.from_env(
        {"DATABASE_URL": f"postgres://u:{password}@h/d", "REDIS_URL": f"redis://:{password}@h", "AUDIT_KEY": password}
    )
    assert password not in settings.secret_values


@pytest.mark.parametrize("url", ["postgres://u:{}@h/d", "postgres://h/d?password={}", "redis://:{}@h"])
def test_distinctive_password_is_masked_as_written_and_as_meant(url: str) -> None:
    name = "REDIS_URL" if url.startswith("redis") else "DATABASE_URL"
    assert "k7%2Fq2x9-Lm4vT8" in Settings.from_env({name: url.format("k7%2Fq2x9-Lm4vT8")}).secret_values or "?" in url
    assert "k7/q2x9-Lm4vT8" in Settings.from_env({name: url.format("k7%2Fq2x9-Lm4vT8")}).secret_values


def test_every_key_that_is_strong_enough_is_masked() -> None:
    assert all(map(is_distinctive, ("3f6d0c2e-8b1a", "correct-horse-battery", "3f6d0c2e8b1a4e57")))


def test_weak_audit_key_is_noticed() -> None:
    weak = {key: Settings.from_env({"AUDIT_KEY": key}).has_weak_audit_key for key in ("x", "changeme", "k" * 32, "")}
    assert weak == {"x": True, "changeme": True, "k" * 32: False, "": False}
