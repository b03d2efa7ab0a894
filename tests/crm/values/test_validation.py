"""The check before a write: values are normalised, left alone, or refused before any call."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from redis.asyncio import Redis

from spokes.core.errors import InvalidRequest
from spokes.crm.values.validation import ValidationRules, validate_properties
from spokes.simulator.config import PortalConfig
from spokes.simulator.property_definition import PropertyDefinition
from tests.support.hubspot.crm_world import ANY_PROPERTY, CRMWorld, open_world

RULES = ValidationRules(frozenset({"mail.invalid"}), "DE")


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
        ("contact", {"phone": "+1 202-555-0143 ext. 227"}, {"phone": "+1 202-555-0143 ext. 227"}),
        ("contact", {"mobilephone": "+12025550143,42#"}, {"mobilephone": "+12025550143,42#"}),
        ("company", {"phone": "1-800-FLOWERS"}, {"phone": "1-800-FLOWERS"}),
        ("contact", {"work_email": "Info@xn--kse-qla.de"}, {"work_email": "info@xn--kse-qla.de"}),
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
        ({"interests": [["A"], "B"]}, "VALUE_LIST"),
        ({"interests": {"A": True}}, "VALUE_TYPE"),
        ({"picture": b"png"}, "VALUE_TYPE"),
        ({"score": float("nan")}, "VALUE_NOT_FINITE"),
        ({"score": Decimal("Infinity")}, "VALUE_NOT_FINITE"),
        ({"renewal": datetime(2026, 11, 24, tzinfo=UTC).replace(tzinfo=None)}, "VALUE_TIME_ZONE"),
    ],
)
async def test_invalid_value_is_refused_before_any_call(
    german_world: CRMWorld, properties: dict[str, object], reason: str
) -> None:
    with pytest.raises(InvalidRequest) as raised:
        await german_world.services("contacts.update").contacts.update("1", properties)  # type: ignore[arg-type]  # refused

    (name,) = properties
    assert (raised.value.category, str(raised.value)) == (reason, f"invalid_request {reason} contacts.{name}")
    assert (german_world.calls, german_world.writes) == ([], [])


@pytest.mark.parametrize(
    ("address", "blocked"),
    [
        ("ada@blocked.example.org", "blocked.example.org"),
        ("ada@sub.blocked.example.org", "blocked.example.org"),
        ("ada@xn--kse-qla.de", "käse.de"),
        ("ada@Käse.de", "xn--kse-qla.de"),
    ],
)
def test_address_of_a_blocked_domain_is_refused(address: str, blocked: str) -> None:
    with pytest.raises(InvalidRequest, match="EMAIL_DOMAIN_BLOCKED"):
        validate_properties("contact", {"email": address}, ValidationRules(frozenset({blocked})))


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


async def test_texts_of_a_multiple_checkbox_are_joined(world: CRMWorld) -> None:
    contact_id = world.create()

    await world.services("contacts.update").contacts.update(contact_id, interests=["Cheese", "Wine"], score=2.0)

    record = world.find("contacts", contact_id)
    assert record
    assert (record.properties["interests"], record.properties["score"]) == ("Cheese;Wine", "2")


BERLIN = timezone(timedelta(hours=1))
SCHEMA = PortalConfig(
    properties={"contacts": {"renewal": PropertyDefinition("date"), "call_at": PropertyDefinition("datetime")}}
)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("renewal", datetime(2026, 11, 24, tzinfo=BERLIN), "2026-11-24"),
        ("call_at", datetime(2026, 11, 24, tzinfo=BERLIN), "2026-11-23T23:00:00.000Z"),
        ("call_at", datetime(2026, 11, 24, 9, tzinfo=BERLIN), "2026-11-24T08:00:00.000Z"),
        ("renewal", datetime(2026, 11, 24, tzinfo=UTC), "2026-11-24T00:00:00.000Z"),
        ("hs_timestamp", datetime(2026, 11, 24, tzinfo=BERLIN), "2026-11-23T23:00:00.000Z"),
    ],
)
async def test_local_midnight_is_a_day_or_an_instant_as_the_schema_says(
    redis: Redis, name: str, value: datetime, text: str
) -> None:
    async with open_world(redis, SCHEMA) as world:
        contact_id = world.create()
        await world.services("contacts.update").contacts.update(contact_id, {name: value})

        record = world.find("contacts", contact_id)
        assert record
        assert record.properties[name] == text


async def test_schema_is_read_once_for_many_local_midnights(redis: Redis) -> None:
    async with open_world(redis, SCHEMA) as world:
        contacts = world.services("contacts.create").contacts
        for day in (1, 2, 3):
            await contacts.create({"renewal": datetime(2026, 11, day, tzinfo=BERLIN)})

        assert world.calls.count("GET contacts") == 1


async def test_local_midnight_without_a_schema_is_refused_before_the_write(redis: Redis) -> None:
    async with open_world(redis, ANY_PROPERTY) as world:
        contact_id = world.create()
        with pytest.raises(InvalidRequest, match=r"DATE_OR_TIME_UNKNOWN contacts\.renewal"):
            await world.services("contacts.update").contacts.update(
                contact_id, {"renewal": datetime(2026, 11, 24, tzinfo=BERLIN)}
            )

    assert world.writes == []
