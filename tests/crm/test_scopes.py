"""Required scopes derived from handlers' declarations, and their comparison with the token's."""

import pytest
from structlog.testing import capture_logs

from spokes.crm.scopes import (
    Declaration,
    ScopeComparison,
    compare_scopes,
    log_scope_differences,
    requested_scopes,
    required_scopes,
)
from spokes.crm.transport.token_info import TokenInfo
from spokes.routing import load_router


def declared(object_type: str = "object", may: str = "", **reads: tuple[str, ...]) -> Declaration:
    return Declaration(object_type, reads, frozenset(may.split()))


def crm(*scopes: str) -> set[frozenset[str]]:
    return {frozenset({f"crm.objects.{scope}"}) for scope in scopes}


@pytest.mark.parametrize(
    ("declaration", "required"),
    [
        (declared(), set()),
        (declared(contacts=("phone",)), crm("contacts.read")),
        (declared(may="companies.update"), crm("companies.write")),
        (declared(may="deals.create deals.create_nothing"), crm("deals.write")),
        (declared(may="deals.archive"), crm("deals.read", "deals.write")),
        (declared("2-99", objects=("plate",), may="objects.update"), crm("custom.read", "custom.write")),
        (declared("p123_cars"), crm("custom.read")),
        (declared("contact"), crm("contacts.read")),
        (declared("note"), crm("contacts.read")),
        (declared("line_item"), {frozenset({"e-commerce", "crm.objects.line_items.read"})}),
        (declared("conversation"), {frozenset({"conversations.read"})}),
        (declared("event"), set()),
        (declared("0-999"), set()),
        (declared("deal", objects=("amount",)), crm("deals.read")),
        (declared(tickets=("subject",)), {frozenset({"tickets", "crm.objects.tickets.read"})}),
        (declared(may="line_items.create"), {frozenset({"e-commerce", "crm.objects.line_items.write"})}),
        (declared(may="tasks.create"), crm("contacts.write")),
        (declared(emails=("hs_email_text",)), crm("contacts.read") | {frozenset({"sales-email-read"})}),
        (declared(deals=("amount",), may="associations.list"), crm("deals.read")),
        (
            declared(deals=("amount",), companies=("name",), may="associations.associate"),
            crm("deals.read", "deals.write", "companies.read", "companies.write"),
        ),
        (declared(may="privacy.delete"), crm("contacts.read", "contacts.write")),
    ],
)
def test_required_scopes_follow_from_declarations(declaration: Declaration, required: set[frozenset[str]]) -> None:
    assert required_scopes([declaration]) == required


def test_one_alternative_scope_is_enough() -> None:
    required = required_scopes([declared(tickets=("subject",))])

    assert compare_scopes(required, frozenset({"tickets", "oauth"})) == ScopeComparison(frozenset(), frozenset())
    assert compare_scopes(required, frozenset()).missing_texts == ("tickets or crm.objects.tickets.read",)


def test_install_asks_for_one_of_several_alternative_scopes() -> None:
    required = required_scopes([declared(contacts=("phone",), tickets=("subject",))])

    assert requested_scopes(required) == ("crm.objects.contacts.read", "oauth", "tickets")
    assert requested_scopes(required, ["crm.objects.tickets.read", "files"]) == (
        "crm.objects.contacts.read",
        "crm.objects.tickets.read",
        "oauth",
    )


def test_scope_that_no_handler_needs_is_excess() -> None:
    granted = frozenset({"oauth", "crm.objects.contacts.read", "crm.objects.deals.write"})

    assert compare_scopes(required_scopes([declared(contacts=("phone",))]), granted).excess == {
        "crm.objects.deals.write"
    }


def test_missing_and_excess_are_logged_once_each() -> None:
    with capture_logs() as lines:
        log_scope_differences(TokenInfo(1, frozenset({"oauth", "content"})), [declared(contacts=("phone",))])

    assert [(line["event"], list(line["scopes"])) for line in lines] == [
        ("token_scopes_missing", ["crm.objects.contacts.read"]),
        ("token_scopes_excess", ["content"]),
    ]


@pytest.mark.parametrize("info", [None, TokenInfo(1, frozenset())])
def test_unknown_scopes_are_not_logged(info: TokenInfo | None) -> None:
    with capture_logs() as lines:
        assert log_scope_differences(info, [declared(contacts=("phone",))]) is None

    assert lines == []


def test_default_handlers_need_exactly_these_scopes() -> None:
    routes = {route.name: (claim.partition(".")[0], route.uses) for claim, route in load_router("handlers")}
    required = required_scopes(Declaration(object_type, uses.reads, uses.may) for object_type, uses in routes.values())

    assert ScopeComparison(required, frozenset()).missing_texts == (
        "crm.objects.companies.read", "crm.objects.companies.write", "crm.objects.contacts.read",
        "crm.objects.contacts.write", "crm.objects.deals.read", "tickets or crm.objects.tickets.read",
    )  # fmt: skip
