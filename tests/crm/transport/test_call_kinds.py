"""spokes.crm.transport.call_kinds: the kind of each call, and which handlers need it."""

import pytest

from spokes.crm.transport.call_kinds import call_kind, declares_kind
from spokes.crm.transport.paths import Paths


@pytest.mark.parametrize("version", ["v3", "2026-09"])
def test_kind_is_the_object_type_and_what_the_call_does(version: str) -> None:
    paths = Paths(version)
    kinds = {
        call_kind("GET", paths.objects("contact", "1")): "contacts.read",
        call_kind("POST", paths.objects("contact", "batch", "read")): "contacts.read",
        call_kind("POST", paths.objects("contact", "search")): "contacts.search",
        call_kind("PATCH", paths.objects("contact", "1")): "contacts.write",
        call_kind("POST", paths.objects("task")): "tasks.write",
        call_kind("POST", paths.objects("2-1234567", "batch", "upsert")): "2-1234567.write",
        call_kind("DELETE", paths.objects("company", "1")): "companies.write",
        call_kind("POST", paths.associations("deal", "task", "batch", "read")): "associations.read",
        call_kind("GET", paths.associations("deal", "task", "labels")): "associations.read",
        call_kind("GET", paths.object_associations("deal", "1", "task")): "associations.read",
        call_kind("PUT", paths.object_associations("deal", "1", "default", "task", "2")): "associations.write",
        call_kind("GET", paths.properties("deal")): "properties.read",
        call_kind("GET", paths.account_details()): "other.read",
        call_kind("POST", paths.token_info()): "other.write",
    }
    assert [kind for kind, expected in kinds.items() if kind != expected] == []


@pytest.mark.parametrize(
    ("kind", "reads", "may", "is_declared"),
    [
        ("contacts.read", ("contacts",), (), True),
        ("contacts.read", ("companies",), ("contacts.update",), False),
        ("contacts.read", ("objects",), (), True),
        ("deals.read", ("objects",), (), False),
        ("contacts.write", ("contacts",), (), False),
        ("contacts.write", (), ("contacts.create",), True),
        ("contacts.write", (), ("objects.update",), True),
        ("contacts.write", (), ("tasks.create",), False),
        ("associations.read", (), ("associations.list",), True),
        ("associations.write", (), ("associations.list",), False),
        ("associations.write", (), ("associations.remove",), True),
        ("contacts.search", ("contacts",), (), False),
    ],
)
def test_declaration_names_the_kinds_that_a_handler_needs(
    kind: str, reads: tuple[str, ...], may: tuple[str, ...], *, is_declared: bool
) -> None:
    assert declares_kind(kind, dict.fromkeys(reads, ("x",)), frozenset(may), "contact") is is_declared
