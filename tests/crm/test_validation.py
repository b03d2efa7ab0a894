"""Validators: canonical forms of known cases; any input gives None or a form that is stable."""

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from spokes.core.errors import InvalidRequest
from spokes.crm.validation import (
    MAX_VALUE_CHARS,
    ValidationRules,
    Value,
    canonical_domain,
    canonical_email,
    e164,
    property_text,
    validate_properties,
)
from tests.support.crm_world import CRMWorld, open_world

RULES = ValidationRules(frozenset({"mail.invalid"}), "DE")


@pytest.mark.parametrize(
    ("text", "region", "number"),
    [
        ("030 123456", "DE", "+4930123456"),
        ("+1 (415) 555-2671", "DE", "+14155552671"),
        ("0049 30 123456", "de", "+4930123456"),
        ("(415) 555-2671 ext. 9", "US", "+14155552671"),
        ("tel:+44-20-7946-0958", "US", "+442079460958"),
        ("12", "US", None),
        ("", "US", None),
        ("call me", "US", None),
        ("030 123456", "XX", None),
        ("+999 123", "US", None),
    ],
)
def test_phone_numbers_are_normalised_to_e164(text: str, region: str, number: str | None) -> None:
    assert e164(text, region) == number


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (" Ada.Lovelace+x@Example.ORG ", "ada.lovelace+x@example.org"),
        ("a@bücher.example.org", "a@bücher.example.org"),
        ("ada", None),
        ("ada@", None),
        ("ada@localhost", None),
        ("a b@example.org", None),
        ("", None),
    ],
)
def test_emails_are_normalised_to_lower_case(text: str, address: str | None) -> None:
    assert canonical_email(text) == address


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("https://www.Example.com:8080/path?q=1#x", "example.com"),
        ("HTTP://user:pw@shop.example.co.uk/", "shop.example.co.uk"),
        ("www.example.com.", "example.com"),
        ("example.com/about", "example.com"),
        ("bücher.de", "xn--bcher-kva.de"),
        ("www2.example.com", "www2.example.com"),
        ("localhost", None),
        ("192.168.0.1", None),
        ("http://[::1]/", None),
        ("exa mple.com", None),
        ("-bad.com", None),
        ("", None),
        ("http://[", None),
    ],
)
def test_domains_are_reduced_to_their_name(text: str, domain: str | None) -> None:
    assert canonical_domain(text) == domain


@given(st.text(max_size=60) | st.from_regex(r"(https?://)?(www\.)?[a-zA-Zäß.-]{1,30}(:\d+)?(/.*)?"))
def test_canonical_domain_is_none_or_stable(text: str) -> None:
    domain = canonical_domain(text)

    assert domain is None or canonical_domain(domain) in {domain, domain.removeprefix("www.")}


@given(st.text(max_size=60) | st.emails())
def test_canonical_email_is_none_or_stable(text: str) -> None:
    address = canonical_email(text)

    assert address is None or canonical_email(address) == address


@given(st.text(max_size=40) | st.from_regex(r"\+?[0-9 ()/-]{5,18}"), st.sampled_from(["US", "DE", "GB", "ZZ", ""]))
def test_e164_is_none_or_stable(text: str, region: str) -> None:
    number = e164(text, region)

    assert number is None or e164(number, "ZZ") == number


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (True, "true"),
        (False, "false"),
        (7, "7"),
        (1.5, "1.5"),
        ("x", "x"),
        (date(2026, 11, 23), "2026-11-23"),
        (datetime(2026, 11, 23, 20, 0, 0, 5000, tzinfo=UTC), "2026-11-23T20:00:00.005Z"),
        (datetime(2026, 11, 23, 20, tzinfo=timezone(timedelta(hours=2))), "2026-11-23T18:00:00.000Z"),
    ],
)
def test_values_are_converted_to_text(value: Value, text: str) -> None:
    assert property_text(value) == text


def test_value_longer_than_the_limit_is_refused() -> None:
    assert len(property_text("x" * MAX_VALUE_CHARS)) == MAX_VALUE_CHARS
    with pytest.raises(InvalidRequest):
        property_text("x" * (MAX_VALUE_CHARS + 1))


@pytest.fixture
async def german_world(redis: Redis) -> AsyncIterator[CRMWorld]:
    async with open_world(redis, blocked_email_domains="Mail.invalid", default_region="DE") as world:
        yield world


@pytest.mark.parametrize(
    ("object_type", "properties", "written"),
    [
        ("contacts", {"email": " Ada@Example.org "}, {"email": "ada@example.org"}),
        ("0-1", {"phone": "030 123456"}, {"phone": "+4930123456"}),
        ("contact", {"mobilephone": "+1 415 555 2671"}, {"mobilephone": "+14155552671"}),
        ("company", {"phone": "030 123456"}, {"phone": "+4930123456"}),
        ("contact", {"email": None, "phone": ""}, {"email": "", "phone": ""}),
        ("deal", {"email": "not looked at", "phone": "nor this"}, {"email": "not looked at", "phone": "nor this"}),
        ("contact", {"email": "a@notmail.invalid.example.org"}, {"email": "a@notmail.invalid.example.org"}),
    ],
)
def test_values_are_normalised_to_hubspots_form(
    object_type: str, properties: dict[str, str], written: dict[str, str]
) -> None:
    assert validate_properties(object_type, properties, RULES) == written


@pytest.mark.parametrize(
    ("properties", "reason"),
    [
        ({"email": "ada"}, "EMAIL_INVALID"),
        ({"email": "ada@mail.invalid"}, "EMAIL_INVALID"),
        ({"phone": "call me"}, "PHONE_INVALID"),
        ({"mobilephone": "12"}, "PHONE_INVALID"),
        ({"city": "x" * 65_537}, "VALUE_TOO_LONG"),
    ],
)
async def test_invalid_value_is_refused_before_any_call(
    german_world: CRMWorld, properties: dict[str, str], reason: str
) -> None:
    with pytest.raises(InvalidRequest) as raised:
        await german_world.services("contacts.update").contacts.update("1", properties)

    assert (raised.value.category, str(raised.value)) == (reason, f"invalid_request {reason}")
    assert (german_world.calls, german_world.writes) == ([], [])


@pytest.mark.parametrize("address", ["ada@blocked.example.org", "ada@sub.blocked.example.org"])
def test_address_of_a_blocked_domain_is_refused(address: str) -> None:
    with pytest.raises(InvalidRequest, match="EMAIL_DOMAIN_BLOCKED"):
        validate_properties("contact", {"email": address}, ValidationRules(frozenset({"blocked.example.org"})))


async def test_blocked_domains_and_region_are_settings(redis: Redis) -> None:
    async with open_world(redis, blocked_email_domains="Example.NET", default_region="DE") as world:
        contacts = world.services("contacts.create").contacts
        contact_id = await contacts.create({"phone": "030 123456"})
        with pytest.raises(InvalidRequest, match="EMAIL_DOMAIN_BLOCKED"):
            await contacts.create({"email": "a@shop.example.net"})

    assert world.find("contacts", contact_id).properties["phone"] == "+4930123456"  # type: ignore[union-attr]


async def test_email_of_an_upsert_is_validated(german_world: CRMWorld) -> None:
    with pytest.raises(InvalidRequest, match="EMAIL_INVALID"):
        await german_world.services("contacts.upsert").contacts.upsert("email", "ada", {"city": "x"})
