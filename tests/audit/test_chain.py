import pytest

from spokes.audit.chain import GENESIS, canonical_bytes, chain_hash, chain_rows
from spokes.audit.rows import to_row
from tests.support.events import record


def test_form_of_a_hash_never_changes() -> None:
    """What is archived today must verify for as long as it is kept."""
    row = to_row(record(1, detail={"property": "phone", "at": 3}).as_dict())
    assert chain_hash(GENESIS, row) == "218dbe2928e68caa0ea11cfd771872e50c8e8ee128a6068643abaf416d62a680"


def test_hash_covers_the_hash_before_it() -> None:
    row = to_row(record().as_dict())
    assert chain_hash(GENESIS, row) != chain_hash("1" * 64, row)


def test_every_column_is_covered() -> None:
    row = to_row(record(reason="r", correlation_id="c", detail={"a": 1}).as_dict())
    whole = chain_hash(GENESIS, row)
    assert all(chain_hash(GENESIS, {**row, name: "changed"}) != whole for name in row)


def test_column_added_later_leaves_older_hashes_as_they_are() -> None:
    row = to_row(record().as_dict())
    assert chain_hash(GENESIS, row) == chain_hash(GENESIS, {**row, "a_later_column": None})


def test_number_and_hash_of_a_row_are_outside_its_canonical_form() -> None:
    row = to_row(record().as_dict())
    assert canonical_bytes(row) == canonical_bytes({**row, "seq": 7, "hash": "x"})


def test_what_json_cannot_say_hashes_differently_from_its_honest_form() -> None:
    """SQLite lets a tamperer store bytes in a text column."""
    row = to_row(record(reason="r").as_dict())
    assert chain_hash(GENESIS, row) != chain_hash(GENESIS, {**row, "reason": b"r"})


@pytest.mark.parametrize("object_id", ["318845120001", None], ids=["kept", "erased"])
def test_hash_of_an_object_stands_in_for_its_id(object_id: str | None) -> None:
    row = {**to_row(record().as_dict()), "object_hash": "h", "object_id": "318845120001"}
    assert canonical_bytes({**row, "object_id": object_id}) == canonical_bytes(row)
    assert b"318845120001" not in canonical_bytes(row)


def test_records_are_numbered_and_each_is_linked_to_the_one_before_it() -> None:
    rows = [to_row(record(number).as_dict()) for number in (1, 2)]
    first = chain_hash(GENESIS, rows[0])
    assert chain_rows(rows, 0, GENESIS) == [
        {**rows[0], "seq": 1, "hash": first},
        {**rows[1], "seq": 2, "hash": chain_hash(first, rows[1])},
    ]
