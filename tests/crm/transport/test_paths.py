"""Endpoint paths of every API version, object type names, and association type ids."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spokes.core.errors import InvalidRequest
from spokes.core.events import OBJECT_TYPES
from spokes.crm.associations import TYPE_IDS
from spokes.crm.object_types import plural, singular
from spokes.crm.transport.paths import Paths


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        (
            "v3",
            (
                "/crm/v3/objects/contacts/7", "/crm/v4/objects/deals/1/associations/notes",
                "/crm/v4/associations/deals/notes/batch/read", "/account-info/v3/details",
                "/account-info/v3/api-usage/daily/private-apps",
            ),
        ),
        (
            "2026-09",
            (
                "/crm/objects/2026-09/contacts/7", "/crm/objects/2026-09/deals/1/associations/notes",
                "/crm/associations/2026-09/deals/notes/batch/read", "/account-info/2026-09/details",
                "/account-info/2026-09/api-usage/daily/private-apps",
            ),
        ),
    ],
)  # fmt: skip
def test_each_version_has_its_paths(version: str, expected: tuple[str, ...]) -> None:
    paths = Paths(version)

    assert expected == (
        paths.objects("contact", "7"),
        paths.object_associations("deal", "1", "notes"),
        paths.associations("deals", "note", "batch", "read"),
        paths.account_details(),
        paths.daily_usage(),
    )
    assert paths.token_info() == "/oauth/v2/private-apps/get/access-token-info"


@pytest.mark.parametrize("part", ["", ".", ".."])
def test_part_that_leads_to_another_endpoint_is_refused(part: str) -> None:
    with pytest.raises(InvalidRequest):
        Paths("v3").objects("contacts", part)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_id_stays_one_part_of_the_path(object_id: str) -> None:
    if object_id.strip("."):
        path = Paths("v3").objects("contacts", object_id)

        assert path.count("/") == 5
        assert path.isascii()
        assert "?" not in path
        assert "#" not in path


@pytest.mark.parametrize(
    ("any_name", "one", "many"),
    [
        ("contacts", "contact", "contacts"),
        ("0-2", "company", "companies"),
        ("line_items", "line_item", "line_items"),
        ("tax", "tax", "taxes"),
        ("2-3465404", "2-3465404", "2-3465404"),
        ("cars", "cars", "cars"),
    ],
)
def test_any_name_of_a_type_finds_the_others(any_name: str, one: str, many: str) -> None:
    assert (singular(any_name), plural(any_name)) == (one, many)


def test_plural_and_singular_are_inverse() -> None:
    assert all(singular(plural(name)) == name for name in OBJECT_TYPES.values())


@pytest.mark.parametrize(
    ("pair", "type_id"),
    [
        (("note", "contact"), 202), (("contact", "note"), 201), (("task", "deal"), 216), (("call", "ticket"), 220),
        (("company", "email"), 185), (("meeting", "company"), 188), (("contact", "company"), 279),
        (("deal", "line_item"), 19),
    ],
)  # fmt: skip
def test_association_types_have_hubspots_ids(pair: tuple[str, str], type_id: int) -> None:
    assert TYPE_IDS[pair] == type_id


def test_association_type_ids_are_unique() -> None:
    assert len(set(TYPE_IDS.values())) == len(TYPE_IDS)
