"""What HubSpot ends, and which of it a deployment uses."""

from datetime import date

import pytest

from spokes.subscriptions.deadlines import Use, UseKind, due_deadlines, paths_in_source

TODAY = date(2026, 11, 30)


@pytest.mark.parametrize(
    ("subject", "name", "ends", "days"),
    [
        (UseKind.PATH, "/oauth/v1/token", date(2027, 2, 16), 78),
        (UseKind.PATH, "/oauth/v2/private-apps/get/access-token-info", date(2027, 9, 1), 275),
        (UseKind.PATH, "/oauth/v3/token", date(2027, 9, 1), 275),
        (UseKind.PATH, "/crm-pipelines/v1/pipelines/deals", date(2026, 12, 4), 4),
        (UseKind.PATH, "/crm/v3/objects/contacts", date(2027, 9, 1), 275),
        (UseKind.PATH, "/crm/v4/objects/contacts/1/associations/deals", date(2027, 3, 30), 120),
        (UseKind.PATH, "/automation/v4", date(2027, 3, 30), 120),
        (UseKind.PATH, "/app-webhooks/2025-09/1/subscriptions", date(2027, 3, 1), 91),
        (UseKind.PATH, "/crm/objects/2026-03/contacts", date(2027, 9, 1), 275),
        (UseKind.PATH, "/oauth/2026-09/token", date(2028, 3, 1), 457),
        (UseKind.PLATFORM, "2023.2", date(2026, 8, 1), -121),
        (UseKind.PLATFORM, "2025.1", date(2026, 8, 1), -121),
        (UseKind.PLATFORM, "2025.2", date(2027, 3, 1), 91),
        (UseKind.LISTED_PLATFORM, "2025.1", date(2026, 11, 2), -28),
        (UseKind.APP, "legacy public app", date(2027, 9, 1), 275),
    ],
)
def test_use_has_the_day_on_which_hubspot_ends_it(subject: UseKind, name: str, ends: date, days: int) -> None:
    [due] = due_deadlines([Use(subject, name, "here")], TODAY)
    assert (due.deadline.ends, due.days_left) == (ends, days)


@pytest.mark.parametrize(
    ("subject", "name"),
    [
        (UseKind.PLATFORM, "2026.03"),
        (UseKind.PLATFORM, "2026.09"),
        (UseKind.LISTED_PLATFORM, "2025.2"),
        (UseKind.PATH, "/webhooks-journal/journal/latest"),
        (UseKind.PATH, "/crm/objects/v30/contacts"),
    ],
)
def test_use_without_an_announced_end_has_no_deadline(subject: UseKind, name: str) -> None:
    assert due_deadlines([Use(subject, name, "here")], TODAY) == []


def test_uses_of_one_deadline_are_together_and_the_next_deadline_is_first() -> None:
    uses = [Use(UseKind.PATH, path, "here") for path in ("/crm/v3/objects", "/oauth/v1/token", "/crm/v3/properties")]
    first, second = due_deadlines([*uses, *uses], TODAY)
    assert (first.uses, len(second.uses)) == ((uses[1],), 2)


def test_numbered_paths_in_a_source_file_are_found_with_their_line() -> None:
    source = (
        'BASE = "https://api.hubapi.com"\n'
        'TOKEN = f"{BASE}/oauth/v1/token"  # not /oauth/v3/token\n'
        'await http.get("https://api.hubapi.com/crm/v3/objects/contacts?limit=1")\n'
        'ERP = "https://erp.example.com/api/v1/orders"\n'
        'await http.get(f"/crm/objects/2026-09/contacts/{id}")\n'
    )
    assert [(use.name, use.place) for use in paths_in_source(source, "deals.py")] == [
        ("/oauth/v1/token", "deals.py:2"),
        ("/crm/v3/objects/contacts", "deals.py:3"),
    ]


def test_paths_of_other_systems_are_not_hubspots() -> None:
    assert not list(paths_in_source('await http.get("https://erp.example.com/deals/v1/orders")', "erp.py"))
