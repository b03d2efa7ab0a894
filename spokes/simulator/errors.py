"""HubSpot's error responses: `HubSpotError`, its JSON bodies, and a constructor for each kind.

Bodies follow HubSpot's docs "Error handling"; categories are those that HubSpot's client libraries define.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple, TypeAlias

import orjson

JsonObject: TypeAlias = dict[str, Any]  # a JSON object of HubSpot's; its members differ from endpoint to endpoint

_MIGRATION_IN_PROGRESS = 477


class PropertyFinding(NamedTuple):
    """Why HubSpot refuses one property: its code and message, and the property's name."""

    code: str
    message: str
    name: str


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
        sub_category: str = "",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.category = category
        self.message = message
        self.errors = list(errors)
        self.context = {name: list(values) for name, values in (context or {}).items()}
        self.links = dict(links or {})
        self.sub_category = sub_category

    def body(self, correlation_id: str) -> JsonObject:
        """The body of a whole error response."""
        return {**self.entry(), "correlationId": correlation_id}

    def entry(self) -> JsonObject:
        """The element for `errors` of a batch response."""
        entry: JsonObject = {"status": "error", "category": self.category, "message": self.message}
        details = {
            "subCategory": self.sub_category,
            "errors": self.errors,
            "context": self.context,
            "links": self.links,
        }
        entry |= {name: value for name, value in details.items() if value}
        return entry


def object_not_found(*ids: str) -> HubSpotError:
    """404 for one object; in a batch, one error for all missing objects."""
    is_single = len(ids) == 1
    message = "Object not found. objectId are usually numeric." if is_single else "Could not get some objects."
    return HubSpotError(HTTPStatus.NOT_FOUND, "OBJECT_NOT_FOUND", message, context={"ids": ids})


def nothing_to_update() -> HubSpotError:
    """400 for an update without properties."""
    message = "No properties found to update, please provide at least one."
    return HubSpotError(HTTPStatus.BAD_REQUEST, "VALIDATION_ERROR", message, context={"properties": ["{}"]})


def no_associations(from_type: str, object_id: str, to_type: str) -> HubSpotError:
    """The error of an object without associations in a batch, which `results` leaves out; the types as in events."""
    return HubSpotError(
        HTTPStatus.NOT_FOUND,
        "OBJECT_NOT_FOUND",
        f"No {to_type} is associated with {from_type} {object_id}.",
        sub_category="crm.associations.NO_ASSOCIATIONS_FOUND",
        context={"fromObjectId": [object_id], "fromObjectType": [from_type], "toObjectType": [to_type]},
    )


def endpoint_not_found() -> HubSpotError:
    """404 for a path or method that HubSpot does not have."""
    return HubSpotError(HTTPStatus.NOT_FOUND, "OBJECT_NOT_FOUND", "resource not found")


def already_exists(kind: str, existing_id: str) -> HubSpotError:
    """409; as in HubSpot's response, only the message contains the existing id."""
    message = f"{kind} already exists. Existing ID: {existing_id}"
    return HubSpotError(HTTPStatus.CONFLICT, "CONFLICT", message)


def invalid_properties(findings: Sequence[PropertyFinding], portal_id: int) -> HubSpotError:
    """400 for property values; HubSpot repeats the findings as JSON in the message."""
    details = [
        {
            "isValid": False,
            "message": finding.message,
            "error": finding.code,
            "name": finding.name,
            "localizedErrorMessage": finding.message,
            "portalId": portal_id,
        }
        for finding in findings
    ]
    message = f"Property values were not valid: {orjson.dumps(details).decode()}"
    errors = [_detail(finding.message, finding.code, finding.name) for finding in findings]
    return HubSpotError(HTTPStatus.BAD_REQUEST, "VALIDATION_ERROR", message, errors=errors)


def value_not_unique(
    type_name: str, name: str, value: str, *, portal_id: int, writer_id: str, holder_id: str
) -> HubSpotError:
    """400 for a value of a unique property that another record has; `type_name` as HubSpot's Java code writes it."""
    coordinates = (
        f"PropertyValueCoordinates{{portalId={portal_id}, objectTypeId=ObjectTypeId{{{type_name}}}, "
        f"propertyName={name}, value={value}}}"
    )
    message = f"Cannot set {coordinates} on {writer_id}. {holder_id} already has that value."
    errors = [_detail(message, "CONFLICTING_UNIQUE_VALUE", name)]
    return HubSpotError(HTTPStatus.BAD_REQUEST, "VALIDATION_ERROR", message, errors=errors)


def invalid_associations(type_name: str, ids: Sequence[str]) -> HubSpotError:
    """400 for associations with objects that do not exist."""
    context = {
        "INVALID_OBJECT_IDS": [f"{type_name}={object_id} is not valid" for object_id in ids],
        "objectId": ids,
        "objectType": [type_name] * len(ids),
    }
    return HubSpotError(
        HTTPStatus.BAD_REQUEST, "VALIDATION_ERROR", "One or more associations are invalid", context=context
    )


def invalid_request(message: str, *, code: str | None = None, property_name: str | None = None) -> HubSpotError:
    """400 for a request that fails however often it is sent; `code` such as PROPERTY_DOESNT_EXIST."""
    errors: list[JsonObject] = []
    if code is not None:
        errors.append(_detail(message, code, property_name))
    return HubSpotError(HTTPStatus.BAD_REQUEST, "VALIDATION_ERROR", message, errors=errors)


def _detail(message: str, code: str, property_name: str | None) -> JsonObject:
    context = {} if property_name is None else {"context": {"propertyName": [property_name]}}
    return {"message": message, "code": code, **context}


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
