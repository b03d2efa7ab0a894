import pytest

from spokes.audit.chain import GENESIS, canonical_bytes, chain_hash, chain_rows
from spokes.audit.rows import to_row
from tests.support.events import record


def test_hash_format_never_changes() -> None:
    """Records archived by this version must verify with every later version."""
    row = to_row(record(1, detail={"property": "phone", "at": 3}).as_dict())
    assert chain_hash(GENESIS, row) == "218dbe2928e68caa0ea11cfd771872e50c8e8ee128a6068643abaf416d62a680"


def test_hash_covers_the_previous_hash() -> None:
    row = to_row(record().as_dict())
    assert chain_hash(GENESIS, row) != chain_hash("1" * 64, row)


def test_every_column_is_covered() -> None:
    row = to_row(record(reason="r", correlation_id="c", detail={"a": 1}).as_dict())
    whole = chain_hash(GENESIS, row)
    assert all(chain_hash(GENESIS, {**row, name: "changed"}) != whole for name in row)


def test_column_added_later_does_not_change_older_hashes() -> None:
    row = to_row(record().as_dict())
    assert chain_hash(GENESIS, row) == chain_hash(GENESIS, {**row, "a_later_column": None})


def test_seq_and_hash_are_not_part_of_the_canonical_form() -> None:
    row = to_row(record().as_dict())
    assert canonical_bytes(row) == canonical_bytes({**row, "seq": 7, "hash": "x"})


def test_value_that_json_lacks_hashes_differently_from_the_original() -> None:
    """SQLite accepts bytes in a text column, so an attacker could store them."""
    row = to_row(record(reason="r").as_dict())
    assert chain_hash(GENESIS, row) != chain_hash(GENESIS, {**row, "reason": b"r"})


@pytest.mark.parametrize("object_id", ["318845120001", None], ids=["kept", "erased"])
def test_object_hash_replaces_the_object_id(object_id: str | None) -> None:
    row = {**to_row(record().as_dict()), "object_hash": "h", "object_id": "318845120001"}
    assert canonical_bytes({**row, "object_id": object_id}) == canonical_bytes(row)
    assert b"318845120001" not in canonical_bytes(row)


def test_records_are_numbered_and_linked_to_their_predecessor() -> None:
    rows = [to_row(record(number).as_dict()) for number in (1, 2)]
    first = chain_hash(GENESIS, rows[0])
    assert chain_rows(rows, 0, GENESIS) == [
        {**rows[0], "seq": 1, "hash": first},
        {**rows[1], "seq": 2, "hash": chain_hash(first, rows[1])},
    ]
