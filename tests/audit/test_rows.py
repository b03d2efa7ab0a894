import dataclasses

import orjson
import pytest

from spokes.audit.records import AuditRecord, Outcome, delivery_fields, event_fields
from spokes.audit.rows import COLUMNS, to_json, to_row
from spokes.audit.stream import encode
from spokes.core.errors import UnreadableDelivery
from spokes.core.events import Event
from tests.support.events import event, record


def test_record_and_its_stream_entry_make_the_same_row() -> None:
    full = record(reason="r", detail={"b": 1, "a": None})
    assert to_row(full.as_dict()) == to_row(orjson.loads(encode(full)))


def test_record_of_defaults_makes_a_row() -> None:
    minimal = AuditRecord(action="requests.refused", portal_id=0)
    assert to_row(orjson.loads(encode(minimal)))["attempt"] == 0


def test_absent_field_is_null() -> None:
    row = to_row(record(reason="", detail={}, event_id=None, outcome=None).as_dict())
    assert [row[name] for name in ("reason", "detail", "event_id", "outcome")] == [None] * 4


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": ""},
        {"id": 7},
        {"at": None},
        {"at": "yesterday"},
        {"portal_id": True},
        {"object_id": "9" * 501},
        {"handler": ["a"]},
        {"detail": "text"},
        {"action": ""},
    ],
)
def test_value_that_no_column_can_hold_is_rejected(wrong: dict[str, object]) -> None:
    with pytest.raises(UnreadableDelivery):
        to_row({**record().as_dict(), **wrong})


@pytest.mark.parametrize(
    ("sent", "stored"), [("7788990", 7788990), (2**63, None), (1.5, None), ([7], None), ({}, None), (True, None)]
)
def test_optional_id_of_another_type_is_coerced_or_absent(sent: object, stored: int | None) -> None:
    """Workers of older versions wrote ids as HubSpot sent them; their records are kept."""
    for name in ("app_id", "event_id"):
        assert to_row({**record().as_dict(), name: sent})[name] == stored


def test_fields_of_newer_version_are_kept() -> None:
    """During a deploy an older archiver moves the records of newer workers."""
    row = to_row({**record(detail={"a": 1}).as_dict(), "shard": 3})
    assert to_json({**row, "seq": 1, "hash": ""})["detail"] == {"a": 1, "shard": 3}


def test_action_of_newer_version_is_kept() -> None:
    assert to_row({**record().as_dict(), "action": "moon.landed"})["action"] == "moon.landed"


def test_nul_character_does_not_reach_postgresql() -> None:
    assert to_row(record(object_id="a\0b").as_dict())["object_id"] == "a\ufffdb"


def test_every_field_of_a_record_is_exported() -> None:
    assert set(COLUMNS) == {field.name for field in dataclasses.fields(AuditRecord)} | {"seq", "hash"}


def test_field_dictionaries_make_records() -> None:
    """Hot paths encode dictionaries without an AuditRecord; their fields must be its fields."""
    event_outcome = event_fields(
        Event(event()), Outcome.DEAD, key="k", delivery_id="d", attempt=1, reason="r", handler="h",
        correlation_id="c", detail={"a": 1}, actor="ada",
    )  # fmt: skip
    for fields in (event_outcome, delivery_fields(7, "d", {"a": 1})):
        assert AuditRecord(**fields).as_dict().items() >= fields.items()
