"""spokes.core.masking: secrets and personal data are masked, ids and times are not."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spokes.core.masking import _PHONE, Mask, derive_key, keyed_hash

mask = Mask(["s3cret-of-the-app", "s3cret"])


@pytest.mark.parametrize(
    "text",
    [
        "ann@example.com wrote",
        "token pat-eu1-0a1b2c3d-0000-1111 leaked",
        "Authorization: Bearer abc.def",
        "redis://user:pass@host:1/0",
        "call +49 (89) 1234-567 now",
        "key=s3cret-of-the-app!",
    ],
)
def test_text_that_looks_personal_or_secret_is_masked(text: str) -> None:
    masked = mask.text(text)
    assert "***" in masked
    assert not any(part in masked for part in ("ann@", "0a1b2c3d", "abc.def", "pass", "1234", "s3cret", "of-the-app"))


@pytest.mark.parametrize(
    "unit",
    [
        "a",
        "a@",
        "a.",
        "@a.",
        "eyJ-",
        "eyJa.",
        "Bearer ",
        "Bearer\t",
        " ",
        "://",
        "://a",
        "+1",
        "+1 (",
        "pat-eu1-",
        "pat-",
    ],
)
def test_time_of_masking_is_linear_in_the_text(unit: str) -> None:
    run = unit * (400_000 // len(unit))
    started = time.process_time()
    mask.text(f"@{run} eyJ + Bearer pat- ://{run}@")
    assert time.process_time() - started < 2  # a quadratic pattern takes minutes


def test_every_address_in_a_run_of_characters_is_masked() -> None:
    assert mask.text("ann@example.com+bob@example.org/" + "x" * 100 + "@example.com") == "******/***"


NATIONAL_NUMBERS = [
    "202-555-0147", "(202) 555-0147", "202.555.0147", "202 555 0147", "(202)555-0147", "1-202-555-0147",
    "1 (202) 555-0147", "+1.202.555.0147", "202 - 555 - 0147", "202/555-0147", "202\u00a0555\u00a00147",
    "202\u2011555\u20110147", "020 7946 0958", "(02) 9374 4000", "030/1234567", "0171-1234567", "06 12 34 56 78",
    "06.12.34.56.78",
]  # fmt: skip


@pytest.mark.parametrize("number", NATIONAL_NUMBERS)
def test_phone_number_without_country_is_masked(number: str) -> None:
    assert mask.text(f"Called {number}, no answer") == "Called ***, no answer"


@pytest.mark.parametrize(
    "text",
    [
        "192.168.100.200",
        "10.0.0.12:8080",
        "2026-11-23 20:00:00",
        "550e8400-1234-4716-8123-446655440000",
        "12345678-1234-4123-8123-123456789012",
        "50112233-1a35552bcd-000123",
        "1801353600000-0",
        "2-1234567",
        "1,234,567 records",
        "/contacts/12/345/6789",
    ],
)
def test_numbers_that_are_no_phone_numbers_are_not_masked(text: str) -> None:
    assert mask.text(text) == text


UNMARKED_NUMBERS = [number for number in NATIONAL_NUMBERS if "+" not in number]


@given(st.lists(st.sampled_from([*UNMARKED_NUMBERS, '"', "\n", " ", "x", "-", "7", "\u00fc", ".5"]), max_size=12))
def test_phone_numbers_are_masked_in_part_of_a_text_as_in_the_whole(parts: list[str]) -> None:
    text = "".join(parts)
    assert mask.text(text) == _PHONE.sub("***", text)


@pytest.mark.parametrize("part", ["1", "0 ", "202-555-", "(", "(202) ", "01 ", "1-", "0-", "06.12."])
def test_search_for_phone_numbers_takes_linear_time(part: str) -> None:
    start = time.process_time()
    mask.text(part * (200_000 // len(part)))
    assert time.process_time() - start < 0.5


def test_ids_and_times_are_not_masked() -> None:
    text = "delivery 50112233-19a8-ff01 event 318845120771 at 2026-11-23T20:00:00.123456Z"
    assert mask.text(text) == text


def test_sensitive_fields_are_masked_by_name_at_any_depth() -> None:
    assert mask.fields({"a": {"propertyValue": "Ann"}, "n": 3}) == {"a": {"propertyValue": "***"}, "n": 3}


def test_every_purpose_has_a_key_of_its_own() -> None:
    assert derive_key("master", "a") != derive_key("master", "b")


def test_keyed_hash_depends_on_text_and_key() -> None:
    key = derive_key("master", "values")
    assert keyed_hash(key, "Ann") == keyed_hash(key, "Ann") != keyed_hash(derive_key("other", "values"), "Ann")
