"""References to CRM objects: ids and links."""

import pytest

from spokes.console.queries.history.objects import Reference
from spokes.core.errors import AmbiguousReference


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("318845120771", Reference("318845120771")),
        (" contact 51 ", Reference("51", "contact")),
        ("0-2/51", Reference("51", "company")),
        (
            "https://app.hubspot.com/contacts/50112233/record/0-1/318845120771",
            Reference("318845120771", "contact", 50112233),
        ),
        ("https://app-eu1.hubspot.com/contacts/7/record/2-123/9?x=1", Reference("9", "2-123", 7)),
        ("https://app.hubspot.com/contacts/7/deal/9/", Reference("9", "deal", 7)),
    ],
)
def test_reference_is_an_id_or_a_link(text: str, reference: Reference) -> None:
    assert Reference.from_text(text) == reference


@pytest.mark.parametrize(
    "text", ["", "ada@example.com", "<script>", "https://evil.example/contacts/7/deal/9", "9" * 30]
)
def test_text_that_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(AmbiguousReference):
        Reference.from_text(text)
