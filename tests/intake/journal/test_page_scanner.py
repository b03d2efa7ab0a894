"""spokes.intake.journal.page_scanner: entries of a page, however it arrives."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spokes.intake.journal.page_scanner import PageScanner, UnreadablePage

ENTRIES = [
    {"type": "crmObject", "objectId": 1, "propertyChanges": {"email": 'a"],[{\\', "phone": None}},
    {"type": "association", "isPrimary": True},
    {"type": "odd", "deep": [{"a": [[{"b": "]}"}]]}, "x"]},
    {},
]


def scan(page: bytes, size: int = 7) -> list[bytes]:
    scanner = PageScanner()
    entries = [entry for at in range(0, len(page), size) for entry in scanner.feed(page[at : at + size])]
    scanner.finish()
    return entries


def page_of(entries: list[object], **fields: object) -> bytes:
    return orjson.dumps({"offset": "o", **fields, "journalEvents": entries, "publishedAt": "2026-09-10T11:58:03.120Z"})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 64, 10_000])
def test_entries_are_the_same_in_chunks_of_any_size(size: int) -> None:
    assert [orjson.loads(entry) for entry in scan(page_of(ENTRIES), size)] == ENTRIES


@given(st.lists(json_values, max_size=6), st.integers(1, 40))
def test_any_values_are_split_as_a_parser_splits_them(values: list[object], size: int) -> None:
    assert [orjson.loads(entry) for entry in scan(page_of(values), size)] == values


@given(st.lists(json_values, max_size=4), json_values)
def test_other_members_of_a_page_do_not_matter(values: list[object], other: object) -> None:
    page = page_of(values, other=other, nested={"journalEvents": [1]}, text='"journalEvents":[2]')
    assert [orjson.loads(entry) for entry in scan(page)] == values


def test_array_alone_counts_as_a_page() -> None:
    assert scan(b' \n[ {"a":1} , {"b":2} ]\n') == [b'{"a":1}', b'{"b":2}']


def test_damaged_entry_leaves_the_others() -> None:
    assert scan(b'{"journalEvents":[{"a":1},{"a":nil x},{"b":2}]}') == [b'{"a":1}', b'{"a":nil x}', b'{"b":2}']


@pytest.mark.parametrize(
    ("head", "tail"),
    [('"publishedAt":"2026-09-10T11:58:03.120Z",', ""), ("", ', "publishedAt" : "2026-09-10T11:58:03.120Z"')],
)
def test_time_of_publication_is_read_before_or_behind_the_entries(head: str, tail: str) -> None:
    scanner = PageScanner()
    scanner.feed(f'{{{head}"journalEvents":[{{"publishedAt":"1999-01-01T00:00:00Z"}}]{tail}}}'.encode())
    scanner.finish()
    assert scanner.published_at == 1_789_041_483_120


def test_page_without_a_time_has_none() -> None:
    scanner = PageScanner()
    scanner.feed(b'{"journalEvents":[]}')
    scanner.finish()
    assert scanner.published_at is None


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"null", b"<html>", b'{"journalEvents":{}}', b'{"journalEvents":[', b'{"journalEvents":[{"a":1},',
     b'{"journalEvents":[{"a":"', b'{"events":[]}', b"\x1f\x8b\x08"],
)  # fmt: skip
def test_other_content_is_no_page(content: bytes) -> None:
    with pytest.raises(UnreadablePage):
        scan(content)


def test_entry_without_an_end_does_not_fill_the_memory() -> None:
    with pytest.raises(UnreadablePage, match="does not end"):
        scan(b'{"journalEvents":[{"a":"' + b"x" * 9_000_000, 1_000_000)
