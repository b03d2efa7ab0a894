"""HubSpot's error responses: `HubSpotError`, its JSON bodies, and a constructor for each kind.

Bodies follow HubSpot's docs "Error handling"; categories are those that HubSpot's client libraries define.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, TypeAlias

JsonObject: TypeAlias = dict[str, Any]  # a JSON object of HubSpot's; its members differ from endpoint to endpoint

_MIGRATION_IN_PROGRESS = 477


class HubSpotError(Exception):
    """An error response: HTTP status, category, message, and the other members of HubSpot's error body."""

    def __init__(
        self,
        status: int,
        category: str,
        message: str,
        *,
        errors: Sequence[JsonObject] = (),
        context: Mapping[str, Sequence[str]] | None = None,
        links: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.category = category
        self.message = message
        self.errors = list(errors)
        self.context = {name: list(values) for name, values in (context or {}).items()}
        self.links = dict(links or {})

    def body(self, correlation_id: str) -> JsonObject:
        """The body of a whole error response."""
        return {**self.entry(), "correlationId": correlation_id}

    def entry(self) -> JsonObject:
        """The element for `errors` of a batch response."""
        entry: JsonObject = {"status": "error", "category": self.category, "message": self.message}
        for name, value in (("errors", self.errors), ("context", self.context), ("links", self.links)):
            if value:
                entry[name] = value
        return entry


def object_not_found(*ids: str) -> HubSpotError:
    """404 for one object; in a batch, one error for all missing objects."""
    is_single = len(ids) == 1
    message = "Object not found. objectId are usually numeric." if is_single else "Could not get some objects."
    return HubSpotError(HTTPStatus.NOT_FOUND, "OBJECT_NOT_FOUND", message, context={"ids": ids})


def endpoint_not_found() -> HubSpotError:
    """404 for a path or method that HubSpot does not have."""
    return HubSpotError(HTTPStatus.NOT_FOUND, "OBJECT_NOT_FOUND", "resource not found")


def already_exists(kind: str, existing_id: str) -> HubSpotError:
    """409; as in HubSpot's response, only the message contains the existing id."""
    message = f"{kind} already exists. Existing ID: {existing_id}"
    return HubSpotError(HTTPStatus.CONFLICT, "CONFLICT", message)


def invalid_request(message: str, *, code: str | None = None, property_name: str | None = None) -> HubSpotError:
    """400 for a request that fails however often it is sent; `code` such as PROPERTY_DOESNT_EXIST."""
    errors: list[JsonObject] = []
    if code is not None:
        detail: JsonObject = {"message": message, "code": code}
        if property_name is not None:
            detail |= {"in": property_name, "context": {"propertyName": [property_name]}}
        errors.append(detail)
    return HubSpotError(HTTPStatus.BAD_REQUEST, "VALIDATION_ERROR", message, errors=errors)


def not_authenticated(*, expired: bool = False) -> HubSpotError:
    """401: no token, an unknown token, or an expired one."""
    if expired:
        message = "The OAuth token used to make this call expired."
        return HubSpotError(HTTPStatus.UNAUTHORIZED, "EXPIRED_AUTHENTICATION", message)
    message = "Authentication credentials not found. This API supports OAuth 2.0 authentication."
    return HubSpotError(HTTPStatus.UNAUTHORIZED, "INVALID_AUTHENTICATION", message)


def missing_scopes(scopes: Sequence[str]) -> HubSpotError:
    """403 with the scopes; the token needs one of them."""
    return HubSpotError(
        HTTPStatus.FORBIDDEN,
        "MISSING_SCOPES",
        "This app hasn't been granted all required scopes to make this call.",
        errors=[
            {
                "message": "One or more of the following scopes are required.",
                "context": {"requiredGranularScopes": list(scopes)},
            }
        ],
        links={"scopes": "https://developers.hubspot.com/scopes"},
    )


def injected_error_body(status: int) -> JsonObject:
    """The body HubSpot sends with an injected status such as 423, 477 or 5xx, without correlationId."""
    category, message = {
        HTTPStatus.LOCKED: ("LOCKED", "This record is locked by a high volume of changes. Wait before trying again."),
        _MIGRATION_IN_PROGRESS: ("MIGRATION_IN_PROGRESS", "This account is moving between data centres."),
        HTTPStatus.UNAUTHORIZED: ("INVALID_AUTHENTICATION", "Authentication credentials not found."),
        HTTPStatus.FORBIDDEN: ("MISSING_SCOPES", "This app hasn't been granted all required scopes."),
        HTTPStatus.NOT_FOUND: ("OBJECT_NOT_FOUND", "resource not found"),
        HTTPStatus.CONFLICT: ("CONFLICT", "The object was changed by somebody else."),
        HTTPStatus.BAD_REQUEST: ("VALIDATION_ERROR", "The request is not valid."),
    }.get(status, ("INTERNAL_ERROR", "internal error"))
    return {"status": "error", "message": message, "category": category}
