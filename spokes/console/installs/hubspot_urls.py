"""URLs of HubSpot's own site: where an install is authorised, and where a marketplace install returns to. Pure."""

import re
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote, urlencode

from spokes.core.errors import HttpProblem
from spokes.core.settings.url_parts import UrlParts, split_url

_HUBSPOT_HOST: Final = re.compile(r"app(-[a-z0-9]{2,12})?\.hubspot\.com")
_EXAMPLE: Final = "https://app.hubspot.com"
_MAX_RETURN_URL: Final = 1000  # characters
_HTTPS_PORTS: Final = (None, 443)


def authorize_url(app_url: str, portal_id: int, parameters: Mapping[str, str]) -> str:
    """Return the page on which a customer authorises an install; with portal 0 it lets them choose the account."""
    account = f"{portal_id}/" if portal_id else ""
    return f"{app_url}/oauth/{account}authorize?{urlencode(parameters, quote_via=quote, safe='')}"


def scope_parameters(required: Sequence[str], optional: Sequence[str]) -> dict[str, str]:
    """Return the parameters of the authorise page that name scopes."""
    parameters = {"scope": " ".join(required)}
    if others := [scope for scope in optional if scope not in required]:
        parameters["optional_scope"] = " ".join(others)
    return parameters


def checked_return_url(text: str, app_url: str) -> str:
    """Return the address that a marketplace install returns to, if it is a page of HubSpot.

    Raises:
        HttpProblem: 400, it is not, or it is not a URL.
    """
    try:
        parts = split_url(text, _EXAMPLE)
        is_accepted = _is_hubspot(parts) or _origin(parts) == _origin(split_url(app_url, _EXAMPLE))
    except ValueError:
        is_accepted = False
    if not is_accepted or "#" in text or not text.isascii() or len(text) > _MAX_RETURN_URL:
        detail = "The parameter returnUrl is not an address of HubSpot, so the install was not started."
        raise HttpProblem(400, "return_url_not_hubspot", detail)
    return text


def with_state(return_url: str, state: str) -> str:
    """Return a checked return address with the state added to its query."""
    return f"{return_url}{'&' if '?' in return_url else '?'}{urlencode({'state': state})}"


def _is_hubspot(parts: UrlParts) -> bool:
    is_https = parts.scheme == "https" and parts.port in _HTTPS_PORTS and not (parts.user or parts.password)
    return is_https and _HUBSPOT_HOST.fullmatch(parts.host.lower()) is not None


def _origin(parts: UrlParts) -> tuple[str, str, str, str, int | None]:
    return parts.scheme, parts.user, parts.password, parts.host.lower(), parts.port
