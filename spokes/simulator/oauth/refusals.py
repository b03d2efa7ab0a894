"""The errors of HubSpot's OAuth endpoints: RFC 6749 bodies with HubSpot's own code and message beside them."""

from http import HTTPStatus

from spokes.simulator.errors import JsonObject


class OAuthRefusal(Exception):
    """A 400 of an OAuth endpoint: RFC 6749's error, HubSpot's code and a message."""

    status = HTTPStatus.BAD_REQUEST

    def __init__(self, error: str, code: str, message: str) -> None:
        super().__init__(message)
        self.error = error
        self.code = code
        self.message = message

    def body(self, correlation_id: str) -> JsonObject:
        """The body of the response."""
        return {
            "error": self.error,
            "error_description": self.message,
            "status": self.code,
            "message": self.message,
            "correlationId": correlation_id,
        }


def bad_client_id() -> OAuthRefusal:
    """No app has this client id."""
    return OAuthRefusal("invalid_client", "BAD_CLIENT_ID", "missing or unknown client id")


def bad_client_secret() -> OAuthRefusal:
    """The client secret is not the app's."""
    return OAuthRefusal("invalid_client", "BAD_CLIENT_SECRET", "missing or invalid client secret")


def bad_refresh_token() -> OAuthRefusal:
    """The refresh token is unknown, revoked or replaced."""
    return OAuthRefusal("invalid_grant", "BAD_REFRESH_TOKEN", "missing or invalid refresh token")


def bad_hub() -> OAuthRefusal:
    """The account of the refresh token is gone."""
    return OAuthRefusal("access_denied", "BAD_HUB", "missing or unknown hub id")


def bad_auth_code() -> OAuthRefusal:
    """The code is unknown, used or expired."""
    return OAuthRefusal("invalid_grant", "BAD_AUTH_CODE", "missing or unknown auth code")


def bad_redirect_uri(message: str = "missing or invalid redirect uri") -> OAuthRefusal:
    """The redirect address is not the one of the authorisation."""
    return OAuthRefusal("invalid_grant", "BAD_REDIRECT_URI", message)


def bad_code_verifier() -> OAuthRefusal:
    """The verifier does not belong to the challenge of the authorisation."""
    return OAuthRefusal("invalid_grant", "BAD_CODE_VERIFIER", "missing or invalid code verifier")


def bad_scopes(message: str) -> OAuthRefusal:
    """The app or the account does not have a scope."""
    return OAuthRefusal("invalid_scope", "BAD_SCOPES", message)


def bad_grant_type() -> OAuthRefusal:
    """The grant type is unknown."""
    return OAuthRefusal("unsupported_grant_type", "BAD_GRANT_TYPE", "missing or unknown grant type")
