import pytest

from spokes.portals.oauth_errors import (
    AppRefused,
    InstallRefused,
    OAuthError,
    OAuthUnavailable,
    PortalRevoked,
    oauth_error,
)


def refused(http_status: int, body: dict[str, str], *, is_refresh: bool = True) -> OAuthError:
    return oauth_error(http_status, body, retry_after_s=0.0, is_refresh=is_refresh)


@pytest.mark.parametrize("body", [
    {"error": "invalid_grant", "status": "BAD_REFRESH_TOKEN"},
    {"status": "BAD_REFRESH_TOKEN", "message": "missing or invalid refresh token"},
    {"error": "invalid_grant"},
    {"error": "access_denied", "status": "BAD_HUB"},
    {"status": "BAD_HUB"},
    {"status": "error", "error": "other", "message": "missing or unknown hub id"},
])  # fmt: skip
def test_refused_refresh_token_means_a_revoked_portal(body: dict[str, str]) -> None:
    assert isinstance(refused(400, body), PortalRevoked)


@pytest.mark.parametrize("status", [400, 401, 403])
@pytest.mark.parametrize("body", [
    {"error": "invalid_client"},
    {"error": "invalid_client", "status": "BAD_CLIENT_ID"},
    {"error": "invalid_grant", "status": "BAD_CLIENT_SECRET"},
    {"status": "BAD_CLIENT_ID", "message": "missing or unknown client id"},
    {"error": "unauthorized_client"},
    {"error": "unsupported_grant_type", "status": "BAD_GRANT_TYPE"},
    {"error": "invalid_request"},
    {"status": "SOMETHING_NEW", "message": "?"},
])  # fmt: skip
def test_other_refusals_blame_no_portal(status: int, body: dict[str, str]) -> None:
    assert isinstance(refused(status, body), AppRefused)


@pytest.mark.parametrize("status", [404, 408, 423, 429, 477, 500, 502, 503, 524])
def test_other_statuses_are_transient(status: int) -> None:
    assert isinstance(refused(status, {"error": "invalid_grant", "status": "BAD_REFRESH_TOKEN"}), OAuthUnavailable)


@pytest.mark.parametrize(
    ("status", "may_have_effect"), [(404, False), (423, False), (429, False), (500, True), (524, True)]
)
def test_failure_of_the_server_may_come_after_the_effect(status: int, may_have_effect: bool) -> None:
    error = refused(status, {})
    assert isinstance(error, OAuthUnavailable)
    assert error.may_have_effect is may_have_effect


@pytest.mark.parametrize("status", [400, 401, 403])
def test_response_of_a_proxy_is_transient(status: int) -> None:
    assert isinstance(refused(status, {}), OAuthUnavailable)


@pytest.mark.parametrize("code", ["BAD_AUTH_CODE", "BAD_REDIRECT_URI", "BAD_CODE_VERIFIER", "BAD_SCOPES"])
def test_refused_install_concerns_its_installer(code: str) -> None:
    error = refused(400, {"error": "invalid_grant", "status": code}, is_refresh=False)
    assert isinstance(error, InstallRefused)
    assert error.code == code.lower()


def test_install_with_a_wrong_client_secret_is_a_fault_of_ours() -> None:
    assert isinstance(refused(400, {"error": "invalid_client"}, is_refresh=False), AppRefused)


def test_text_of_a_response_is_not_kept() -> None:
    error = refused(400, {"error": "invalid_grant", "status": "na1-refresh <secret>", "message": "na1-refresh"})
    assert "na1" not in f"{error} {error.code} {error.args}"
