"""Whether an install gives this deployment what it needs: the expected portal, our own app, enough scopes. Pure."""

from collections.abc import Collection

from spokes.core.errors import HttpProblem
from spokes.crm.scopes import ScopeRequirement, compare_scopes


def check_app(app_id: int, client_id: str, *, our_app_id: int, our_client_id: str) -> None:
    """Check that the tokens are of our app; an id that HubSpot or we do not name is not compared.

    Raises:
        HttpProblem: 403, they are of another app.
    """
    if (our_app_id and app_id and app_id != our_app_id) or (client_id and client_id != our_client_id):
        detail = "HubSpot issued these tokens to another app, so nothing was installed. Start again."
        raise HttpProblem(403, "install_of_another_app", detail)


def check_portal(portal_id: int, *, expected: int, served: Collection[int]) -> None:
    """Check that the install is of the expected portal, and that this deployment serves it.

    Args:
        portal_id: of the tokens.
        expected: the portal that the install link named, 0 if it named none.
        served: PORTAL_IDS; empty: all.

    Raises:
        HttpProblem: 400 or 403, with what to do.
    """
    if not portal_id:
        detail = "HubSpot did not say which portal these tokens are for, so nothing was installed. Start again."
        raise HttpProblem(400, "install_without_portal", detail)
    if expected and portal_id != expected:
        detail = (
            f"The install link is for portal {expected}, and portal {portal_id} was chosen, so nothing was installed. "
            f"Start again and choose portal {expected}."
        )
        raise HttpProblem(403, "install_of_another_portal", detail)
    if served and portal_id not in served:
        detail = (
            f"This deployment does not serve portal {portal_id}, so nothing was installed. Its operator can add the "
            "portal to `PORTAL_IDS`."
        )
        raise HttpProblem(403, "portal_not_served", detail)


def check_scopes(portal_id: int, granted: Collection[str], required: frozenset[ScopeRequirement]) -> None:
    """Check that the tokens have every scope that the handlers need.

    Raises:
        HttpProblem: 403, with the missing scopes.
    """
    if missing := compare_scopes(required, frozenset(granted)).missing_texts:
        detail = (
            f"Portal {portal_id} did not grant every scope that is needed, so nothing was installed. Missing: "
            f"{', '.join(f'`{text}`' for text in missing)}. The app's operator adds them to the app's required scopes "
            "at HubSpot; then start again."
        )
        raise HttpProblem(403, "install_without_scopes", detail)
