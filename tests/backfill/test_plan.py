"""spokes.backfill.plan: what is read follows from what handlers register for."""

import pytest

from spokes.backfill.plan import BackfillPlan, make_plan
from spokes.core.errors import RecoveryRefused

REGISTRATIONS = {
    "contact.creation", "contact.propertyChange:phone", "contact.propertyChange:email", "object.deletion",
    "deal.propertyChange", "company.associationChange",
}  # fmt: skip


def test_plan_has_every_event_that_handlers_register_for() -> None:
    plan = make_plan("contacts", REGISTRATIONS)
    expected = BackfillPlan("contact", ("email", "phone"), creations=True, deletions=True, merges=False)
    assert (plan, plan.is_complete) == (expected, True)


def test_named_property_narrows_the_plan_so_that_it_proves_no_gap() -> None:
    plan = make_plan("0-1", REGISTRATIONS, properties=["phone"])
    assert plan == BackfillPlan("contact", ("phone",), False, False, False, is_complete=False)


def test_plan_of_one_handler_has_its_own_events() -> None:
    plan = make_plan("contact", REGISTRATIONS, own=["contact.propertyChange:phone"])
    assert (plan.properties, plan.creations, plan.is_complete) == (("phone",), False, False)


def test_last_modified_property_of_contacts_has_no_prefix() -> None:
    assert make_plan("contacts", REGISTRATIONS).last_modified == "lastmodifieddate"
    assert make_plan("deals", REGISTRATIONS, properties=["amount"]).last_modified == "hs_lastmodifieddate"


@pytest.mark.parametrize(
    ("object_type", "properties", "sentence"),
    [
        ("contacts", ["fax"], "No handler registers for changes of 'fax'"),
        ("deals", [], "Name those to read with --property"),
        ("conversation", [], None),
    ],
)
def test_plan_without_a_purpose_is_refused(object_type: str, properties: list[str], sentence: str | None) -> None:
    registrations = REGISTRATIONS if sentence else {"conversation.newMessage", "company.associationChange"}
    with pytest.raises(RecoveryRefused, match=sentence or "No handler registers for an event that the records"):
        make_plan(object_type, registrations, properties=properties)
