import pytest
from hypothesis import given
from hypothesis import strategies as st

from spokes.portals.oauth_errors import (
    AppRefused,
    InstallRefused,
    OAuthError,
    OAuthUnavailable,
    PortalRefused,
    PortalRevoked,
    TokenRequest,
    oauth_error,
)


def refused(
    http_status: int, body: dict[str, str], request: TokenRequest = TokenRequest.REFRESH, *, retry_after_s: float = 0.0
) -> OAuthError:
    return oauth_error(http_status, body, retry_after_s=retry_after_s, request=request)


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
    {"error": "invalid_client", "status": "BAD_REFRESH_TOKEN"},
])  # fmt: skip
def test_refusal_of_the_client_or_of_the_kind_of_request_concerns_the_app(status: int, body: dict[str, str]) -> None:
    assert isinstance(refused(status, body), AppRefused)


UNKNOWN: list[dict[str, str]] = [
    {"error": "invalid_request"},
    {"error": "invalid_scope", "status": "BAD_SCOPES"},
    {"error": "invalid_grant", "status": "BAD_SCOPES"},
    {"status": "BAD_AUTH_CODE"},
    {"status": "SOMETHING_NEW", "message": "?"},
]


@pytest.mark.parametrize("status", [400, 401, 403])
@pytest.mark.parametrize("body", UNKNOWN)
def test_unknown_refusal_of_a_refresh_concerns_its_portal_and_ends_no_install(
    status: int, body: dict[str, str]
) -> None:
    assert isinstance(refused(status, body), PortalRefused)


@pytest.mark.parametrize("body", [*UNKNOWN, {"error": "invalid_grant"}, {"status": "BAD_HUB"}])
def test_every_refusal_of_a_request_of_the_app_concerns_the_app(body: dict[str, str]) -> None:
    assert isinstance(refused(400, body, TokenRequest.APP), AppRefused)


@pytest.mark.parametrize("status", [404, 408, 423, 429, 477, 500, 502, 503, 524])
def test_other_statuses_are_transient(status: int) -> None:
    assert isinstance(refused(status, {"error": "invalid_grant", "status": "BAD_REFRESH_TOKEN"}), OAuthUnavailable)


@given(
    status=st.integers(201, 599),
    words=st.tuples(*[st.sampled_from(["", "invalid_grant", "invalid_client", "BAD_HUB", "BAD_SCOPES", "NEW"])] * 2),
    retry_after_s=st.sampled_from([0.0, 30.0]),
)
def test_only_a_refused_app_and_its_rate_limit_concern_more_than_one_portal(
    status: int, words: tuple[str, str], retry_after_s: float
) -> None:
    error = refused(status, {"error": words[0], "status": words[1]}, retry_after_s=retry_after_s)
    concerns_all = isinstance(error, AppRefused) or (isinstance(error, OAuthUnavailable) and error.is_rate_limit)
    assert concerns_all == ((status in {400, 401, 403} and "invalid_client" in words) or status == 429)


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
    error = refused(400, {"error": "invalid_grant", "status": code}, TokenRequest.INSTALL)
    assert isinstance(error, InstallRefused)
    assert error.code == code.lower()


def test_install_with_a_wrong_client_secret_is_a_fault_of_ours() -> None:
    assert isinstance(refused(400, {"error": "invalid_client"}, TokenRequest.INSTALL), AppRefused)


def test_text_of_a_response_is_not_kept() -> None:
    error = refused(400, {"error": "invalid_grant", "status": "na1-refresh <secret>", "message": "na1-refresh"})
    assert "na1" not in f"{error} {error.code} {error.args}"
