"""Check settings against each other; each contradiction is one sentence that names the variable to change."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from spokes.core.settings.fields import Settings

_HOUR_S: Final = 3600
_START_OF_TOKENS: Final = "pat-"  # of the access tokens of private apps, which no client secret has
JOURNAL_DEDUPE_HOURS: Final = 96  # the journal's three days, and a day in which its reader catches up
# Pairs of which the first must not be larger than the second, checked if both are set.
_ORDERED: Final = (
    ("hubspot_timeout_s", "handler_timeout_s", "a handler would be cancelled before its slowest call may end"),
    ("stream_days", "audit_days", "records would wait longer in Redis than they are kept"),
    ("audit_backlog", "max_unarchived", "the alert would come after deliveries are refused already"),
)


def contradictions(settings: "Settings") -> Iterator[str]:
    """Return a sentence for each pair of settings that contradict each other."""
    if settings.oidc_audience and settings.oidc_audience == settings.oidc_client_id:
        yield "OIDC_AUDIENCE equals OIDC_CLIENT_ID: the ID token of a login could be used to call the API."
    if settings.hubspot_access_token.get_secret_value() in settings.client_secrets:
        yield "HUBSPOT_CLIENT_SECRET equals HUBSPOT_ACCESS_TOKEN: HubSpot signs with the client secret."
    elif any(secret.startswith(_START_OF_TOKENS) for secret in settings.client_secrets):
        yield "HUBSPOT_CLIENT_SECRET is an access token: HubSpot signs with the client secret of the same page."
    if settings.hubspot_client_id and settings.hubspot_client_id in settings.client_secrets:
        yield "HUBSPOT_CLIENT_SECRET equals HUBSPOT_CLIENT_ID: the Auth page of your HubSpot app shows both."
    if settings.hubspot_client_id and _may_have_several_stores(settings):
        yield (
            "HUBSPOT_CLIENT_ID needs a database that all processes share, because installs are stored there: set "
            "DATABASE_URL, or on a single machine DATA_DIR."
        )
    accepted_s = settings.signature_max_age_s + settings.signature_max_skew_s
    if accepted_s > settings.dedupe_hours * _HOUR_S:
        yield (
            "SIGNATURE_MAX_AGE_S and SIGNATURE_MAX_SKEW_S accept a request for longer than DEDUPE_HOURS: a captured "
            "request could be run again. Lower SIGNATURE_MAX_AGE_S to 300, or raise DEDUPE_HOURS."
        )
    if settings.journal:
        yield from journal_problems(settings)
    for smaller, larger, consequence in _ORDERED:
        is_chosen = {smaller, larger} <= settings.model_fields_set
        if is_chosen and getattr(settings, smaller) > getattr(settings, larger):
            yield f"{smaller.upper()} is larger than {larger.upper()}: {consequence}. Lower the first."
    server = settings.redis_server
    if settings.redis_url.get_secret_value() and settings.redis_tls_verify and not server.tls:
        yield "REDIS_TLS_VERIFY is 1, but REDIS_URL uses no TLS: write rediss://, or remove REDIS_TLS_VERIFY."
    if settings.redis_tls_verify and server.verify == "none":
        yield "REDIS_TLS_VERIFY is 1, but REDIS_URL says ssl_cert_reqs=none: remove one of the two."
    yield from _shared_secrets(settings)


def journal_problems(settings: "Settings") -> Iterator[str]:
    """Return a sentence for each setting with which HubSpot's journal cannot be read."""
    if not settings.hubspot_client_id:
        yield "HUBSPOT_CLIENT_ID is not set: the app reads the journal. Copy it from the Auth page of your HubSpot app."
    if settings.dedupe_hours < JOURNAL_DEDUPE_HOURS:
        yield (
            f"DEDUPE_HOURS is {settings.dedupe_hours}: HubSpot's journal keeps 72 hours, so an event could run twice. "
            f"Set DEDUPE_HOURS to {JOURNAL_DEDUPE_HOURS} or more in all processes."
        )


def _may_have_several_stores(settings: "Settings") -> bool:
    """Return whether each process may write to an SQLite file of its own."""
    is_chosen = bool(settings.database_url.get_secret_value()) or "data_dir" in settings.model_fields_set
    return bool(settings.redis_url.get_secret_value()) and not is_chosen


def _shared_secrets(settings: "Settings") -> Iterator[str]:
    """Return a sentence for each secret that is shown to another program and is a key of ours too."""
    keys = {
        "AUDIT_KEY": settings.audit_key.get_secret_value(),
        "CONSOLE_KEY": settings.console_key.get_secret_value(),
        "HUBSPOT_ACCESS_TOKEN": settings.hubspot_access_token.get_secret_value(),
    }
    shown = {
        "METRICS_TOKEN": settings.metrics_token.get_secret_value(),
        "ALERT_WEBHOOK_SECRET": settings.alert_webhook_secret.get_secret_value(),
    }
    for name, value in shown.items():
        for key, key_value in keys.items():
            if value and value == key_value:
                yield f"{name} equals {key}, and another program knows {name}: set {name} to a text of its own."
