"""The table of refusals: the same error for a single call and for an entry of a batch, and the existing record's id."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spokes.core.errors import (
    Conflict,
    CRMError,
    CRMUnavailable,
    InvalidRequest,
    NotAuthorized,
    NotPermitted,
    ObjectLocked,
    ObjectNotFound,
    PortalMoving,
    RateLimited,
)
from spokes.crm.transport.error_classes import class_of_refusal, existing_id_of, status_of_entry
from spokes.crm.transport.error_mapping import error_from_entry

CONFLICTS: list[dict[str, object]] = [
    {"category": "CONFLICT", "message": "Contact already exists. Existing ID: 7"},
    {"category": "OBJECT_ALREADY_EXISTS", "message": "Existing ID: 7"},
    {"category": "OBJECT_ALREADY_EXISTS", "context": {"existingObjectId": ["7"]}},
    {"category": "VALIDATION_ERROR", "message": "Cannot set x on 123. 7 already has that value."},
    {"errorType": "UNIQUE_VALUE_CONFLICT", "errorTokens": {"existingObjectId": ["7"]}},
    {"category": "VALIDATION_ERROR", "errorType": "UNIQUE_VALUE_CONFLICT", "errorTokens": {"existingObjectId": 7}},
    {"category": "VALIDATION_ERROR", "subCategory": "crm.UNIQUE_VALUE_CONFLICT", "context": {"existingId": "7"}},
    {
        "category": "VALIDATION_ERROR",
        "errors": [{"code": "UNIQUE_VALUE_CONFLICT", "context": {"existingObjectId": ["7"]}}],
    },
    {
        "category": "VALIDATION_ERROR",
        "errors": [{"code": "CONFLICTING_UNIQUE_VALUE", "message": "7 already has that value."}],
    },
    {
        "category": "VALIDATION_ERROR",
        "message": 'Property values were not valid: [{"isValid":false,"message":"7 already has that value.",'
        '"error":"CONFLICTING_UNIQUE_VALUE","name":"customer_number"}]',
    },
    {"error": "CONTACT_EXISTS", "message": "A contact already exists with id 7"},
]  # fmt: skip


@pytest.mark.parametrize("body", CONFLICTS)
def test_every_spelling_of_a_conflict_names_the_existing_record(body: dict[str, object]) -> None:
    assert class_of_refusal(400, body) is class_of_refusal(409, body) is class_of_refusal(None, body) is Conflict
    assert existing_id_of(body) == "7"


@pytest.mark.parametrize(
    ("body", "error_class"),
    [
        ({"category": "VALIDATION_ERROR"}, InvalidRequest),
        ({"category": "VALIDATION_ERROR", "errors": [{"code": "PROPERTY_DOESNT_EXIST"}]}, InvalidRequest),
        ({"category": "WHO_KNOWS"}, InvalidRequest),
        ({}, InvalidRequest),
        ({"category": "OBJECT_NOT_FOUND"}, ObjectNotFound),
        ({"subCategory": "OBJECT_NOT_FOUND", "category": "VALIDATION_ERROR"}, ObjectNotFound),
        ({"category": "MISSING_SCOPES"}, NotPermitted),
        ({"category": "INVALID_AUTHENTICATION"}, NotAuthorized),
        ({"category": "EXPIRED_AUTHENTICATION"}, CRMUnavailable),
        ({"category": "INTERNAL_ERROR"}, CRMUnavailable),
        ({"category": "TIMEOUT"}, CRMUnavailable),
        ({"category": "GATEWAY_TIMEOUT"}, CRMUnavailable),
        ({"category": "LOCKED"}, ObjectLocked),
        ({"category": "RATE_LIMITS"}, RateLimited),
        ({"errorType": "RATE_LIMIT", "policyName": "DAILY"}, RateLimited),
        ({"category": "MIGRATION_IN_PROGRESS"}, PortalMoving),
    ],
)
def test_refusal_is_the_same_alone_and_as_an_entry(body: dict[str, object], error_class: type[CRMError]) -> None:
    assert class_of_refusal(400, body) is class_of_refusal(None, body) is error_class
    assert type(error_from_entry({"status": "error", **body})) is error_class


@pytest.mark.parametrize(
    ("status", "error_class"),
    [
        (401, NotAuthorized), (403, NotPermitted), (404, ObjectNotFound), (408, CRMUnavailable), (409, Conflict),
        (414, InvalidRequest), (423, ObjectLocked), (429, RateLimited), (477, PortalMoving), (500, CRMUnavailable),
        (302, CRMUnavailable),
    ],
)  # fmt: skip
def test_status_decides_before_any_name(status: int, error_class: type[CRMError]) -> None:
    assert class_of_refusal(status, {"category": "VALIDATION_ERROR"}) is error_class


def test_expired_token_of_a_single_call_is_not_authorized() -> None:
    assert class_of_refusal(401, {"category": "EXPIRED_AUTHENTICATION"}) is NotAuthorized


@given(
    st.dictionaries(
        st.sampled_from(["status", "statusCode", "category", "errors", "message"]), st.text() | st.integers()
    )
)
def test_any_entry_has_a_status_that_fits_its_class(body: dict[str, object]) -> None:
    assert 400 <= status_of_entry(body) < 600
    assert class_of_refusal(None, body) is class_of_refusal(status_of_entry(body), body)
