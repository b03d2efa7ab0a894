"""Validators: canonical forms of known cases, and for any input either nothing or a form that stays as it is."""

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spokes.core.errors import InvalidRequest
from spokes.crm.validation import MAX_VALUE_CHARS, Value, canonical_domain, canonical_email, e164, property_text


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
def test_phone_numbers_in_e164(text: str, region: str, number: str | None) -> None:
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
def test_addresses_in_lower_case(text: str, address: str | None) -> None:
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
def test_domains_are_bare(text: str, domain: str | None) -> None:
    assert canonical_domain(text) == domain


@given(st.text(max_size=60) | st.from_regex(r"(https?://)?(www\.)?[a-zA-Zäß.-]{1,30}(:\d+)?(/.*)?"))
def test_domain_is_nothing_or_stays_as_it_is(text: str) -> None:
    domain = canonical_domain(text)

    assert domain is None or canonical_domain(domain) in {domain, domain.removeprefix("www.")}


@given(st.text(max_size=60) | st.emails())
def test_address_is_nothing_or_stays_as_it_is(text: str) -> None:
    address = canonical_email(text)

    assert address is None or canonical_email(address) == address


@given(st.text(max_size=40) | st.from_regex(r"\+?[0-9 ()/-]{5,18}"), st.sampled_from(["US", "DE", "GB", "ZZ", ""]))
def test_number_is_nothing_or_stays_as_it_is(text: str, region: str) -> None:
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
def test_values_travel_as_text(value: Value, text: str) -> None:
    assert property_text(value) == text


def test_longest_value_passes_and_a_longer_one_does_not() -> None:
    assert len(property_text("x" * MAX_VALUE_CHARS)) == MAX_VALUE_CHARS
    with pytest.raises(InvalidRequest):
        property_text("x" * (MAX_VALUE_CHARS + 1))
