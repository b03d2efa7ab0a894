"""spokes.privacy.data_inventory: nothing is stored that it does not list, and docs/data.md is what it prints."""

from spokes.audit.sql.tables import METADATA
from spokes.core.redis.key_table import KEYS
from spokes.privacy.data_inventory import REDIS, TABLES, page
from tests.support.deployment import ROOT


def test_every_redis_key_says_how_it_is_erased() -> None:
    assert {key.pattern for key in KEYS} == REDIS.keys()


def test_every_table_says_how_it_is_erased() -> None:
    assert METADATA.tables.keys() == TABLES.keys()


def test_every_key_with_the_id_of_an_object_is_erased_by_name_or_is_a_lease() -> None:
    with_id = {pattern: treatment.erasure for pattern, treatment in REDIS.items() if "{object_id}" in pattern}
    assert [pattern for pattern, erasure in with_id.items() if "type and id" not in erasure] == [
        "spokes:{portal_id}:lane:{object_type}:{object_id}"
    ]


def test_page_of_stored_data_is_current() -> None:
    assert (ROOT / "docs" / "data.md").read_text() == page()
