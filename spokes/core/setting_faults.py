"""What is said of a setting that is missing or wrong. Rule: one sentence each, what to do next, never the value."""

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Final

_HINTS: Final[Mapping[str, str]] = {
    "HUBSPOT_CLIENT_SECRET": "copy the client secret from the Auth page of your HubSpot app",
    "HUBSPOT_ACCESS_TOKEN": "copy the access token from the Auth page of your HubSpot app",
    "ALERT_WEBHOOK_SECRET": "ALERT_WEBHOOK_URL needs it, messages are signed with it; choose any long text",
    "PUBLIC_URL": "set it to the URL that HubSpot calls, such as https://hooks.example.com",
    "CONSOLE_KEY": "it switches the console on; set it to what `openssl rand -hex 32` prints",
    "OIDC_ISSUER": "it is the address of your identity provider, such as https://login.example.com",
    "OIDC_ROLES": "it says who may do what, such as ops-team=operator,ada@example.com=admin",
}
_GO_TOGETHER: Final[Mapping[str, tuple[str, ...]]] = {
    "ALERT_WEBHOOK_URL": ("ALERT_WEBHOOK_SECRET",),
    "OIDC_ISSUER": ("OIDC_ROLES",),
    "OIDC_AUDIENCE": ("OIDC_ISSUER",),
    "OIDC_CLIENT_ID": ("OIDC_ISSUER", "PUBLIC_URL"),
    "OIDC_CLIENT_SECRET": ("OIDC_CLIENT_ID",),
}


def unset(name: str, blank: Iterable[str]) -> str:
    """Say that a variable is needed and not there; `blank` are those that are set to nothing, in lower case."""
    state = "is set but empty" if name.lower() in blank else "is not set"
    return f"{name} {state}: {_HINTS.get(name, 'see README')}."


def lacking(given: AbstractSet[str], blank: Iterable[str]) -> Iterator[str]:
    """Say which variables are needed by those that are `given`."""
    needed = {other for name in given for other in _GO_TOGETHER.get(name, ())}
    return (unset(name, blank) for name in needed - given)


def wrong(field: str, message: str) -> str:
    """Return a pydantic message without the value: the value may be a secret."""
    told = message.removeprefix("Value error, ").rstrip(".")
    return f"{field.upper()} {told[:1].lower()}{told[1:]}."
