"""What a customer sees when HubSpot refuses an install or does not answer. Pure; quotes nothing of the request."""

from typing import Final

from spokes.core.errors import HttpProblem
from spokes.portals.oauth_errors import InstallRefused, OAuthError, OAuthUnavailable

_LONGEST_RETRY_S: Final = 3600
_CODE: Final = "HubSpot does not accept the code of this install: it was used before, or is too old. Start again."


def problem_for(error: OAuthError, address: str) -> HttpProblem:
    """Return the problem for an error of the token endpoint; `address` is the redirect address of the install."""
    match error:
        case OAuthUnavailable():
            retry_after_s = min(max(5, round(error.retry_after_s)), _LONGEST_RETRY_S)
            detail = "HubSpot does not answer, so nothing was installed. Start again in a few minutes."
            return HttpProblem(503, "hubspot_unavailable", detail, retry_after_s=retry_after_s)
        case InstallRefused():
            return HttpProblem(400, "install_refused", _refusal(error.code, address))
    detail = (
        "HubSpot refuses this app, so nothing was installed. The app's operator compares `HUBSPOT_CLIENT_ID` and "
        "`HUBSPOT_CLIENT_SECRET` with the Auth page of the app."
    )
    return HttpProblem(502, "app_refused", detail)


def _refusal(code: str, address: str) -> str:
    match code:
        case "bad_redirect_uri":
            return (
                "HubSpot does not know the address that it returned to, so nothing was installed. The app's operator "
                f"adds `{address}` to the redirect URLs of the app."
            )
        case "bad_code_verifier":
            return "HubSpot does not accept this install: it was not started here. Start again."
        case "bad_scopes":
            return (
                "HubSpot does not grant the scopes that are needed, so nothing was installed. The app's operator "
                "compares the app's scopes with those that `spokes handlers` shows."
            )
    return _CODE
