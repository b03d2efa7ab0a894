"""The sentence for each problem: the variable's name, what is wrong, and what to write instead. No value is quoted."""

import re
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_HINTS: Final[Mapping[str, str]] = {
    "HUBSPOT_CLIENT_SECRET": "copy the client secret from the Auth page of your HubSpot app",
    "HUBSPOT_ACCESS_TOKEN": "copy the access token from the Auth page of your HubSpot app",
    "ALERT_WEBHOOK_SECRET": "messages to ALERT_WEBHOOK_URL are signed with it; choose any long text",
    "PUBLIC_URL": "set it to the URL that HubSpot calls, such as https://hooks.example.com",
    "CONSOLE_KEY": "it enables the console; set it to the output of `openssl rand -hex 32`",
    "HUBSPOT_CLIENT_ID": "copy the client id from the Auth page of your HubSpot app; it enables installs by OAuth",
    "HUBSPOT_APP_ID": "copy the number of the app from your HubSpot developer account",
    "HUBSPOT_DEVELOPER_API_KEY": "copy the developer API key from your HubSpot developer account",
    "SECRETS_KEY": "it encrypts the tokens of installed portals; set it to the output of `openssl rand -hex 32`",
    "OIDC_ISSUER": "set it to the URL of your identity provider, such as https://login.example.com",
    "OIDC_ROLES": "it assigns roles, such as ops-team=operator,ada@example.com=admin",
}
_COMPANIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "ALERT_WEBHOOK_URL": ("ALERT_WEBHOOK_SECRET",),
    "HUBSPOT_CLIENT_ID": ("HUBSPOT_CLIENT_SECRET", "SECRETS_KEY"),
    "HUBSPOT_OPTIONAL_SCOPES": ("HUBSPOT_CLIENT_ID",),
    "OIDC_ISSUER": ("OIDC_ROLES",),
    "OIDC_AUDIENCE": ("OIDC_ISSUER",),
    "OIDC_CLIENT_ID": ("OIDC_ISSUER", "PUBLIC_URL"),
    "OIDC_CLIENT_SECRET": ("OIDC_CLIENT_ID",),
}
# What to write, for a value that pydantic refuses; the first that matches the error's type.
_FORMS: Final[tuple[tuple[str, str], ...]] = (
    (r"int_.*", "must be a whole number"),
    (r"float_.*|finite_number", "must be a number"),
    (r"bool_.*", "must be 1 or 0"),
    (r"ip_.*", "must be networks such as 203.0.113.0/24, separated by commas"),
)
_LIMITS: Final[Mapping[str, str]] = {
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
}


def missing_setting(name: str, blank: Iterable[str]) -> str:
    """Return the sentence for a missing variable; `blank` are the variables set to an empty value, in lower case."""
    state = "is set but empty" if name.lower() in blank else "is not set"
    return f"{name} {state}: {_HINTS.get(name, 'see README')}."


def missing_companions(names: AbstractSet[str], blank: Iterable[str]) -> Iterator[str]:
    """Return a sentence for each variable that one of `names` requires and that is not set."""
    required = {companion for name in names for companion in _COMPANIONS.get(name, ())}
    return (missing_setting(name, blank) for name in required - names)


def invalid_setting(error: "ErrorDetails", example: str) -> str:
    """Return the sentence for a value that pydantic refuses.

    Args:
        error: of one field.
        example: a valid value; empty if there is none to show.
    """
    name, kind = str(error["loc"][0]).upper(), error["type"]
    form = next((form for pattern, form in _FORMS if re.fullmatch(pattern, kind)), "")
    if not form and kind in _LIMITS:
        form = _LIMITS[kind].format(**error.get("ctx", {}))
    problem = form or error["msg"].removeprefix("Value error, ").rstrip(".")
    shown = f", such as {example}" if form and example and not kind.startswith(("ip_", "bool_", "literal")) else ""
    return f"{name} {problem[:1].lower()}{problem[1:]}{shown}."
