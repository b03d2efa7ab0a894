"""Canonical forms of known cases; any input gives None or a form that is stable; nothing is lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spokes.crm.values.canonical_forms import canonical_domain, canonical_email, canonical_phone, e164


@pytest.mark.parametrize(
    ("text", "region", "number"),
    [
        ("030 123456", "DE", "+4930123456"),
        ("+1 (415) 555-2671", "DE", "+14155552671"),
        ("0049 30 123456", "de", "+4930123456"),
        ("\u202a+49 30 123456\u202c", "US", "+4930123456"),
        ("+49 (0) 30 / 123456", "US", "+4930123456"),
        ("+49 (30) 123456-15", "US", "+493012345615"),
        ("(202) 555 - 0143", "US", "+12025550143"),
        (" 030  123456 ", "DE", "+4930123456"),
        ("\uff0b\uff11\uff12\uff10\uff12 555\u20110143", "DE", "+12025550143"),
        ("tel:+44-20-7946-0958", "US", "+442079460958"),
        ("12", "US", None),
        ("", "US", None),
        ("call me", "US", None),
        ("030 123456", "XX", None),
        ("+999 123", "US", None),
    ],
)
def test_phone_numbers_are_normalised_to_e164(text: str, region: str, number: str | None) -> None:
    assert e164(text, region) == canonical_phone(text, region) == number


@pytest.mark.parametrize(
    "text",
    [
        "+1 202-555-0143 ext. 227",
        "+1 202-555-0143 ext227",
        "+1 202-555-0143 extension 227",
        "+1 202-555-0143 x 9",
        "+1 202-555-0143;ext=9",
        "tel:+1-202-555-0143;ext=9",
        "+1 202-555-0143, 42#",
        "+1 202-555-0143,,42",
        "+1 202-555-0143p42",
        "+1 202-555-0143 w 42",
        "+1 202-555-0143 #227",
        "+1 202-555-0143*42",
        "+1 202-555-0143 (227)",
        "+1 202-555-0143 poste 227",
        "+49 30 123456 Durchwahl 15",
        "+7 495 123-45-67 доб. 227",
        "+81 3-1234-5678 内線 12",
        "1-800-FLOWERS",
        "Mobile: (202) 555-0143",
        "(202) 555-0143 after 6 pm",
        "+1 202-555-0143 / 144",
        "+49 30 123456 / 15",
        "+49 30 123456 - 15",
        "+49 30 123456 - 1234",
        "+49 30 123456 -15",
        "+49 30 123456- 15",
        "+49 30 123456--15",
        "+49 30 123456 (15)",
        "+49 30 123456 [15]",
        "+49 30 123456\t15",
        "+49 30 123456  15",
        "+49 30 123456\n15",
        "+1-202-555-0143 (home)",
        "+49 30 123456 +49 30 123457",
        "+1 202-555-0143 or +1 202-555-0144",
    ],
)
def test_phone_number_with_another_part_is_left_alone(text: str) -> None:
    assert canonical_phone(text, "US") == text
    assert e164(text, "US") is None


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (" Ada.Lovelace+x@Example.ORG ", "ada.lovelace+x@example.org"),
        ("a@bücher.example.org", "a@bücher.example.org"),
        ("info@xn--kse-qla.de", "info@xn--kse-qla.de"),
        ("Info@XN--KSE-QLA.de", "info@xn--kse-qla.de"),
        ("Info@KÄSE.de", "info@käse.de"),
        ("a@faß.de", "a@faß.de"),
        ("\u0130@example.org", "\u0130@example.org"),
        ("Ada Lovelace <ada@example.org>", None),
        ("ada@example.org; bob@example.org", None),
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
        ("www.com", "www.com"),
        ("www.www.example.com", "example.com"),
        ("www.gov.uk", "www.gov.uk"),
        ("xn--bcher-kva.de", "xn--bcher-kva.de"),
        ("faß.de", "xn--fa-hia.de"),
        ("ada@example.com", None),
        ("example.com example.org", None),
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


@given(st.text(max_size=60) | st.from_regex(r"(https?://)?(www\.){0,3}[a-zA-Zäß.-]{1,30}(:\d+)?(/.*)?"))
def test_canonical_domain_is_none_or_stable(text: str) -> None:
    domain = canonical_domain(text)

    assert domain is None or canonical_domain(domain) == domain


@given(st.text(max_size=60) | st.emails() | st.from_regex(r"[a-zA-ZäÖßİΣ.]{1,9}@([a-zäÖß]{1,9}|xn--kse-qla)\.(de|org)"))
def test_canonical_email_is_none_or_stable(text: str) -> None:
    address = canonical_email(text)

    assert address is None or canonical_email(address) == address


REGIONS = st.sampled_from(["US", "DE", "GB", "BR", "AR", "IT", "ZZ", ""])
PHONES = st.from_regex(r"\+?[0-9 ()/-]{5,18}( ?(x|ext\.?|,|;ext=|#|p|/|poste) ?[0-9]{1,4}#?)?", fullmatch=True)


@given(st.text(max_size=40) | PHONES, REGIONS)
def test_canonical_phone_is_none_or_stable(text: str, region: str) -> None:
    number = canonical_phone(text, region)

    assert number is None or canonical_phone(number, region) == number
    assert e164(text, region) in {number, None}


@given(PHONES, REGIONS)
def test_canonical_phone_keeps_every_digit_behind_the_prefix(text: str, region: str) -> None:
    number = canonical_phone(text, region)
    digits = "".join(filter(str.isdigit, text))

    assert number is None or "".join(filter(str.isdigit, number)).endswith(digits[-5:])


def test_valid_e164_does_not_depend_on_the_region() -> None:
    assert {canonical_phone("+4930123456", region) for region in ("US", "DE", "ZZ", "")} == {"+4930123456"}
