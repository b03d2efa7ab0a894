"""What is looked at before a write: addresses, numbers, lengths; refused with a constant reason and without a call."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from spokes.core.errors import InvalidRequest
from spokes.crm.validation import ValidationRules, validate_properties
from tests.support.crm_world import CRMWorld, open_world

RULES = ValidationRules(frozenset({"mail.invalid"}), "DE")


@pytest.fixture
async def world(redis: Redis) -> AsyncIterator[CRMWorld]:
    async with open_world(redis, blocked_email_domains="Mail.invalid", default_region="DE") as world:
        yield world


@pytest.mark.parametrize(
    ("object_type", "given", "written"),
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
def test_values_are_put_into_hubspots_form(object_type: str, given: dict[str, str], written: dict[str, str]) -> None:
    assert validate_properties(object_type, given, RULES) == written


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
async def test_what_cannot_be_written_is_refused_before_any_call(
    world: CRMWorld, properties: dict[str, str], reason: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await world.services("contacts.update").contacts.update("1", properties)

    assert (caught.value.category, str(caught.value)) == (reason, f"invalid_request {reason}")
    assert (world.calls, world.writes) == ([], [])


@pytest.mark.parametrize("address", ["ada@blocked.example.org", "ada@sub.blocked.example.org"])
def test_address_of_a_blocked_domain_is_refused(address: str) -> None:
    with pytest.raises(InvalidRequest, match="EMAIL_DOMAIN_BLOCKED"):
        validate_properties("contact", {"email": address}, ValidationRules(frozenset({"blocked.example.org"})))


async def test_blocked_domains_and_region_are_settings(redis: Redis) -> None:
    async with open_world(redis, blocked_email_domains="Example.NET", default_region="DE") as world:
        contacts = world.services("contacts.create").contacts
        made = await contacts.create({"phone": "030 123456"})
        with pytest.raises(InvalidRequest, match="EMAIL_DOMAIN_BLOCKED"):
            await contacts.create({"email": "a@shop.example.net"})

    assert world.find("contacts", made).properties["phone"] == "+4930123456"  # type: ignore[union-attr]


async def test_address_of_an_upsert_is_looked_at_too(world: CRMWorld) -> None:
    with pytest.raises(InvalidRequest, match="EMAIL_INVALID"):
        await world.services("contacts.upsert").contacts.upsert("email", "ada", {"city": "x"})
