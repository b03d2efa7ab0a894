"""The table of refusals: the same error for a single call and for an entry of a batch, and the existing record's id."""

import pytest
from hypothesis import example, given
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
    ProxyRefusal,
    RateLimited,
)
from spokes.crm.transport.errors.error_classes import class_of_refusal, class_of_response, status_of_entry
from spokes.crm.transport.errors.error_mapping import error_from_entry
from spokes.crm.transport.errors.existing_record import existing_id_of

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
    {"error": "CONTACT_EXISTS", "message": "Contact already exists", "identityProfile": {"vid": 7, "identity": []}},
    {"category": "VALIDATION_ERROR", "message": "Contact already exists (ID: 7)"},
    {"category": "VALIDATION_ERROR", "message": "The record already exists with the object id '7'."},
    {"category": "DUPLICATE_RECORD", "context": {"existingId": 7}},
    {"category": "VALIDATION_ERROR", "subCategory": "crm.DUPLICATE_RECORD", "context": {"id": ["7"]}},
    {"category": "OBJECT_ALREADY_EXISTS", "context": {"objectId": "7"}},
    {"category": "CONFLICT", "errors": [{"context": {"existingContactId": ["7"]}}]},
    {"category": "CONFLICT", "errors": [{"message": "Existing ID: 7"}]},
    {"category": "CONFLICT", "context": {"existing": {"id": "7"}}},
    {"category": "CONFLICT", "errors": [{"context": {"conflictingRecords": [{"objectId": 7}]}}]},
    {"category": "CONFLICT", "links": {"existing": "https://api.hubapi.com/crm/v3/objects/contacts/7"}},
    {"category": "CONFLICT", "message": 'The value "Existing ID: 5" is taken. Existing ID: 7'},
]  # fmt: skip


@pytest.mark.parametrize("body", CONFLICTS)
def test_every_spelling_of_a_conflict_names_the_existing_record(body: dict[str, object]) -> None:
    assert (
        {class_of_response(status, body) for status in (400, 409, 422)} == {class_of_refusal(None, body)} == {Conflict}
    )
    assert existing_id_of(body) == "7"


@pytest.mark.parametrize(
    ("body", "error_class"),
    [
        ({"category": "VALIDATION_ERROR"}, InvalidRequest),
        ({"category": "VALIDATION_ERROR", "errors": [{"code": "PROPERTY_DOESNT_EXIST"}]}, InvalidRequest),
        ({"category": "WHO_KNOWS"}, InvalidRequest),
        ({}, InvalidRequest),
        ({"category": "OBJECT_NOT_FOUND"}, ObjectNotFound),
        (
            {"category": "VALIDATION_ERROR", "context": {"INVALID_OBJECT_IDS": ["CONTACT=9 is not valid"]}},
            ObjectNotFound,
        ),
        ({"subCategory": "OBJECT_NOT_FOUND", "category": "VALIDATION_ERROR"}, ObjectNotFound),
        ({"category": "MISSING_SCOPES"}, NotPermitted),
        ({"category": "INVALID_AUTHENTICATION"}, NotAuthorized),
        ({"category": "EXPIRED_AUTHENTICATION"}, CRMUnavailable),
        ({"category": "INTERNAL_ERROR"}, CRMUnavailable),
        ({"category": "TIMEOUT"}, CRMUnavailable),
        ({"category": "GATEWAY_TIMEOUT"}, CRMUnavailable),
        ({"category": "DEADLOCK_DETECTED"}, CRMUnavailable),
        ({"category": "CONCURRENT_MODIFICATION"}, CRMUnavailable),
        ({"subCategory": "crm.TRY_AGAIN_LATER", "category": "VALIDATION_ERROR"}, CRMUnavailable),
        ({"category": "LOCKED"}, ObjectLocked),
        ({"category": "SERVICE_UNAVAILABLE"}, CRMUnavailable),
        ({"category": "UNAUTHORIZED"}, CRMUnavailable),
        ({"category": "RATE_LIMITS"}, RateLimited),
        ({"category": "RATE_LIMIT_EXCEEDED"}, RateLimited),
        ({"category": "THROTTLED"}, RateLimited),
        ({"errorType": "SECONDLY_RATE_LIMIT_REACHED"}, RateLimited),
        ({"errorType": "RATE_LIMIT", "policyName": "DAILY"}, RateLimited),
        ({"category": "MIGRATION_IN_PROGRESS"}, PortalMoving),
    ],
)
def test_refusal_is_the_same_alone_and_as_an_entry(body: dict[str, object], error_class: type[CRMError]) -> None:
    assert class_of_refusal(400, body) is class_of_refusal(None, body) is error_class
    assert not body or class_of_response(400, body) is error_class
    assert type(error_from_entry({"status": "error", **body})) is error_class


@pytest.mark.parametrize(
    ("status", "error_class"),
    [
        (401, NotAuthorized), (403, NotPermitted), (404, ObjectNotFound), (408, CRMUnavailable), (409, Conflict),
        (414, InvalidRequest), (423, ObjectLocked), (429, RateLimited), (477, PortalMoving), (500, CRMUnavailable),
        (302, CRMUnavailable), (421, CRMUnavailable), (425, CRMUnavailable), (502, CRMUnavailable),
        (503, CRMUnavailable), (504, CRMUnavailable), (521, CRMUnavailable), (524, CRMUnavailable),
        (599, CRMUnavailable),
    ],
)  # fmt: skip
def test_status_decides_before_any_name(status: int, error_class: type[CRMError]) -> None:
    assert class_of_response(status, {"category": "VALIDATION_ERROR"}) is error_class


@pytest.mark.parametrize(("status", "without_page"), [(404, ObjectNotFound), (409, Conflict)])
def test_page_says_nothing_about_a_record(status: int, without_page: type[CRMError]) -> None:
    assert (class_of_response(status, {}), class_of_response(status, {}, is_page=True)) == (without_page, ProxyRefusal)
    form = {"status": "error", "message": "no"}
    assert class_of_response(status, form, is_page=True) is without_page


@pytest.mark.parametrize("status", [400, 403, 405, 422, 451])
@pytest.mark.parametrize("body", [{}, {"message": "Forbidden"}, {"success": False, "errors": [{"code": 1020}]}])
def test_refusal_that_is_not_in_the_form_of_hubspot_is_a_proxys(status: int, body: dict[str, object]) -> None:
    assert class_of_response(status, body) is ProxyRefusal
    assert issubclass(ProxyRefusal, CRMUnavailable)


@pytest.mark.parametrize(
    ("body", "error_class"),
    [
        ({"status": "error", "message": "no", "correlationId": "a-1"}, NotPermitted),
        ({"category": "MISSING_SCOPES"}, NotPermitted),
        ({"status": "error"}, NotPermitted),
    ],
)
def test_refusal_in_the_form_of_hubspot_keeps_its_class(body: dict[str, object], error_class: type[CRMError]) -> None:
    assert class_of_response(403, body) is error_class


@pytest.mark.parametrize(
    "body",
    [
        {"message": "The phone 4915112345678 already exists"},
        {"message": "Existing portal ID: 5"},
        {"message": "Existing ID: 0"},
        {"message": "Existing ID: -5"},
        {"message": "Existing ID: 7.5"},
        {"message": "Existing ID: 99999999999999999999"},
        {"context": {"existingId": True}},
        {"context": {"ids": ["5"], "existingPropertyId": "5"}},
        {"identityProfile": {"vid": "5@example.com"}},
    ],
)
def test_what_is_no_id_of_an_existing_record_is_not_taken_for_one(body: dict[str, object]) -> None:
    assert existing_id_of({"category": "CONFLICT", **body}) is None


def test_id_of_an_input_is_not_the_existing_record() -> None:
    entry = {"category": "CONFLICT", "context": {"ids": ["5"], "id": "5"}}

    assert error_from_entry(entry, {"5", "6"}).existing_id is None  # type: ignore[attr-defined]  # of a Conflict


NUMBERS = st.integers(1, 2**63 - 1)
FOREIGN_FIELDS = ("ids", "portalId", "traceId", "value", "objectTypeId", "conflictingPropertyId", "correlationId")


@given(
    existing=NUMBERS, foreign=st.dictionaries(st.sampled_from(FOREIGN_FIELDS), NUMBERS), value=NUMBERS, data=st.data()
)
def test_only_the_existing_id_is_found_among_other_numbers(
    existing: int, foreign: dict[str, int], value: int, data: st.DataObject
) -> None:
    spelling: dict[str, object] = data.draw(
        st.sampled_from(
            [
                {"message": f"Value {value} is taken. Existing ID: {existing}"},
                {"message": f"Cannot set x to {value} on {value}. {existing} already has that value."},
                {"message": f"{value}", "context": {"existingObjectId": [str(existing)]}},
                {"errors": [{"message": f"{value}", "context": {**foreign, "existingId": existing}}]},
                {"identityProfile": {"vid": existing}},
            ]
        )
    )
    body = {**foreign, "context": foreign, "errorTokens": foreign, **spelling}

    assert existing_id_of(body) == str(existing)


@given(st.dictionaries(st.sampled_from(FOREIGN_FIELDS), NUMBERS | st.lists(NUMBERS)), st.text() | NUMBERS.map(str))
@example({}, "12 already exists")
def test_no_other_number_is_found(foreign: dict[str, object], message: str) -> None:
    body = {**foreign, "message": message, "context": foreign, "errors": [{"context": foreign, "message": message}]}

    assert existing_id_of(body) is None


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
