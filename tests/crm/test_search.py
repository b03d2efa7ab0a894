"""Searches: conditions as HubSpot's filters, limits checked before sending, more than 10,000 results."""

from datetime import UTC, datetime

import pytest
from redis.asyncio import Redis

from spokes.core.errors import InvalidRequest
from spokes.crm.search import Condition, search_body, where
from spokes.simulator.config import Limits, PortalConfig
from tests.support.hubspot.crm_world import CRMWorld, open_world


def body(condition: Condition, **more: object) -> dict[str, object]:
    arguments = {"text": "", "sort": "", "properties": ("email",), "limit": 10, "after": "0", **more}
    return search_body(condition, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("condition", "emails"),
    [
        (where("email").equals("b@example.org"), "b"),
        (where("email").is_one_of(["A@example.org", "b@example.org"]), "ab"),
        (where("email").is_one_of("A@example.org"), "a"),
        (where("email").is_none_of(["A@example.org"]), "bcd"),
        (where("age").between(2, 3), "bc"),
        (where("age").more_than(2), "c"),
        (where("age").at_least(2), "bc"),
        (where("age").less_than(2), "a"),
        (where("age").at_most(2), "ab"),
        (where("age").is_unset(), "d"),
        (where("age").is_set() & where("email").not_equals("a@example.org"), "bc"),
        (where("age").equals(1) | where("age").is_unset(), "ad"),
        ((where("age").equals(1) | where("age").equals(2)) & where("email").contains_token("b*"), "b"),
        (where("email").not_contains_token("b*"), "acd"),
        (where("createdate").more_than(datetime(2020, 1, 1, tzinfo=UTC)), "abcd"),
    ],
)
async def test_condition_finds_matching_records(world: CRMWorld, condition: Condition, emails: str) -> None:
    for letter, age in zip("abcd", ("1", "2", "3", ""), strict=True):
        world.create(email=f"{letter}@example.org", age=age)

    records = await world.services().contacts.search(condition, sort="email")

    assert "".join(record["email"][0] for record in records) == emails


async def test_search_reads_pages_up_to_its_limit(world: CRMWorld) -> None:
    world.create_contacts(205)

    records = await world.services().contacts.search(sort="-email", limit=203)

    assert len({record.id for record in records}) == 203
    assert records[0]["email"] == "person9@example.org"
    assert len(world.calls) == 2


async def test_text_is_searched_in_the_default_properties(world: CRMWorld) -> None:
    world.create_contacts(3)

    assert [r["email"] for r in await world.services().contacts.search(text="person1")] == ["person1@example.org"]


@pytest.mark.slow
async def test_search_all_reads_beyond_ten_thousand_results(redis: Redis) -> None:
    config = PortalConfig(limits=Limits(search_secondly=1000))
    async with open_world(redis, config, hubspot_search_limit=1000) as world:
        ids = world.create_contacts(10_050)
        world.create("contacts", city="elsewhere")
        records = [r.id async for r in world.services().contacts.search_all(where("email").is_set())]

    assert records == ids
    assert len(world.calls) == 51


async def test_search_all_restricts_every_group_to_higher_ids(world: CRMWorld) -> None:
    ids = world.create_contacts(2)

    either = where("email").equals("person0@example.org") | where("email").equals("person1@example.org")

    assert [r.id async for r in world.services().contacts.search_all(either)] == ids


def all_of(count: int) -> Condition:
    condition = where("p0").is_set()
    for number in range(1, count):
        condition &= where(f"p{number}").is_set()
    return condition


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        (all_of(7), "SEARCH_FILTERS"),
        (all_of(6) | all_of(6) | all_of(6) | all_of(1), "SEARCH_FILTERS"),
        (all_of(1) | all_of(1) | all_of(1) | all_of(1) | all_of(1) | all_of(1), "SEARCH_GROUPS"),
        (where("email").is_one_of(f"someone.{n}@example.org" for n in range(200)), "SEARCH_BODY"),
        (where("email").equals("ü" * 500), "SEARCH_BODY"),
    ],
)
async def test_query_beyond_hubspots_limits_is_not_sent(world: CRMWorld, condition: Condition, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason):
        await world.services().contacts.search(condition)

    assert world.calls == []


async def test_limit_above_ten_thousand_is_refused_before_sending(world: CRMWorld) -> None:
    with pytest.raises(InvalidRequest, match="SEARCH_RESULTS"):
        await world.services().contacts.search(limit=10_001)

    assert world.calls == []


@pytest.mark.parametrize(
    "condition", [all_of(6) | all_of(6) | all_of(6), all_of(1) | all_of(1) | all_of(1) | all_of(1)]
)
def test_query_within_hubspots_limits_passes(condition: Condition) -> None:
    assert len(body(condition)["filterGroups"]) == len(condition.groups)  # type: ignore[arg-type]


def test_list_operands_hold_values_unchanged_and_in_lower_case() -> None:
    """HubSpot compares texts in lower case and enumerations unchanged."""
    (group,) = where("stage").is_one_of(["Open", "won"]).groups

    assert group[0]["values"] == ["Open", "won", "open"]


def test_search_without_condition_has_no_filters() -> None:
    assert "filterGroups" not in body(Condition(((),)))
