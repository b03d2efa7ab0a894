"""Registrations and declarations that can never take effect are refused at start, with what to write instead."""

import importlib
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from spokes.core.errors import ConfigurationError
from spokes.core.events import OBJECT_TYPES, Event
from spokes.registrations import registration_key
from spokes.routing import Router, load_router, uses
from spokes.tools import Tools
from tests.support.deployment import ROOT
from tests.support.events import event

MISSPELT = """
from spokes import Router, uses

ROUTER = Router()


@ROUTER.register("contacts.creation")
async def one(event, tools):
    pass


@ROUTER.register("deal.updated")
@uses(reads={"deal": ("amount",)}, may=("deal.update",))
async def two(event):
    pass


@ROUTER.register("ticket.creation")
def three(event, tools):
    pass
"""
FAULTS = (
    "misspelt/__init__.py:7: 'contacts.creation' is no event type of HubSpot. Did you mean 'contact.creation'?",
    "misspelt/__init__.py:12: 'deal.updated' is no event type of HubSpot. Did you mean 'deal.propertyChange'?",
    "misspelt/__init__.py:13: `reads` names 'deal', which is no service. Did you mean 'deals'?",
    "misspelt/__init__.py:13: `may` names 'deal.update', which is no method. Did you mean 'deals.update'?",
    "misspelt/__init__.py:12: two(event): a handler is called with two arguments: `async def two(event, tools)`.",
    "misspelt/__init__.py:18: three: a handler must be a coroutine, `async def three(event, tools)`.",
)


async def handler(event: Event, tools: Tools) -> None:
    """Do nothing."""


@pytest.mark.parametrize(
    ("event_type", "meant"),
    [
        ("contacts.creation", "contact.creation"),
        ("contact.change", "contact.propertyChange"),
        ("contact.propertychange", "contact.propertyChange"),
        ("contact.property_change", "contact.propertyChange"),
        ("Contact.Creation", "contact.creation"),
        ("contact.creation ", "contact.creation"),
        ("contact_creation", "contact.creation"),
        ("line_item:creation", "line_item.creation"),
        ("companys.created", "company.creation"),
        ("goals.creation", "goal.creation"),
        ("LineItem.deleted", "line_item.deletion"),
        ("0-3.update", "deal.propertyChange"),
        ("2-1234.create", "2-1234.creation"),
        ("objects.merged", "object.merge"),
        ("conversation.message", "conversation.newMessage"),
    ],
)
def test_misspelt_event_type_is_refused_with_the_right_spelling(event_type: str, meant: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        Router().register(event_type)(handler)
    assert f"Did you mean {meant!r}?" in str(refusal.value)


@pytest.mark.parametrize(
    "event_type",
    [
        "", "contact", "contact.", ".creation", "owner.creation", "event.creation", "company.privacyDeletion",
        "contact.newMessage", "conversation.merge", "2-1234.", "2-.creation", "contact.creation.contact",
    ],
)  # fmt: skip
def test_event_type_that_hubspot_never_sends_is_refused(event_type: str) -> None:
    with pytest.raises(ConfigurationError, match="is no event type"):
        Router().register(event_type)(handler)


def test_name_without_an_object_type_is_answered_with_the_form_of_custom_types() -> None:
    with pytest.raises(ConfigurationError, match=r"A custom object is named by its id: 2-1234567\.creation"):
        Router().register("cars.creation")(handler)


@pytest.mark.parametrize("event_type", ["contact.privacyDeletion", "object.creation", "2-1234.merge", "0-9999.restore"])
def test_event_types_of_hubspot_and_of_custom_objects_are_accepted(event_type: str) -> None:
    assert registration_key(event_type) == event_type


@pytest.mark.parametrize("type_id", sorted(OBJECT_TYPES))
def test_id_of_a_standard_type_means_the_type(type_id: str) -> None:
    assert registration_key(f"{type_id}.deletion") == f"{OBJECT_TYPES[type_id]}.deletion"


def test_handler_registered_by_type_id_receives_the_event() -> None:
    router = Router()
    router.register("0-1.creation")(handler)
    assert router.match(Event(event())) is not None


@pytest.mark.parametrize(
    ("event_type", "name", "sentence"),
    [
        ("contact.creation", "email", "only property changes have a property"),
        ("contact.propertyChange", "First Name", "internal name"),
        ("contact.propertyChange", "", "internal name"),
        ("contact.propertyChange", ("email", "phone"), "internal name"),
        ("contact.propertyChange", "hs_lastmodifieddate", "HubSpot sends no event"),
        ("conversation.propertyChange", "assignedto", "Did you mean 'assignedTo'"),
    ],
)
def test_property_without_events_is_refused(event_type: str, name: Any, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        Router().register(event_type, property=name)(handler)


@pytest.mark.parametrize(
    ("declaration", "sentence"),
    [
        ({"reads": {"contact": ("phone",)}}, "Did you mean 'contacts'"),
        ({"reads": {"Companys": ("name",)}}, "Did you mean 'companies'"),
        ({"reads": {"associations": ("x",)}}, 'Associations are read with may=\\("associations.list",\\)'),
        ({"reads": {"contacts": ()}}, "takes a tuple of one or more"),
        ({"reads": {"contacts": ("First Name",)}}, "internal name"),
        ({"reads": ("contacts.phone",)}, "maps services to tuples"),
        ({"may": ("contact.update",)}, "Did you mean 'contacts.update'"),
        ({"may": ("contacts.delete",)}, "Did you mean 'contacts.archive'"),
        ({"may": ("association.list",)}, "Did you mean 'associations.list'"),
        ({"may": ("conacts.upsert",)}, "Did you mean 'contacts.upsert'"),
        ({"may": (1,)}, "is no method"),
    ],
)
def test_unknown_service_or_method_is_refused(declaration: Mapping[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        uses(**declaration)


def test_custom_types_may_be_declared_by_id_and_by_name() -> None:
    uses(reads={"2-1234": ("plate",), "p50112233_cars": ("plate",)}, may=("p50112233_cars.update", "2-1234.archive"))


async def too_many(event: Event, tools: Tools, more: object) -> None:
    """Need an argument that no handler gets."""


async def keyword_only(event: Event, *, tools: Tools) -> None:
    """Take the tools by name."""


async def generator(event: Event, tools: Tools) -> Any:
    """Yield."""
    yield


class Callable:
    async def __call__(self, event: Event, tools: Tools) -> None:
        """Do nothing."""


@pytest.mark.parametrize("function", [too_many, keyword_only, generator, Callable(), Callable, Callable().__call__])
def test_function_that_cannot_be_called_as_a_handler_is_refused(function: Any) -> None:
    with pytest.raises(ConfigurationError, match="a handler"):
        Router().register("contact.creation")(function)


def test_handler_may_have_further_optional_parameters() -> None:
    async def with_default(event: Event, tools: Tools, region: str = "DE") -> None:
        del event, tools, region

    Router().register("contact.creation")(with_default)


def test_registration_without_parentheses_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="needs an event type"):
        Router().register(handler)  # type: ignore[arg-type]  # on purpose


@pytest.mark.slow
@pytest.mark.parametrize("module", ["workers", "ingest", "spokes"])
def test_process_with_misspelt_handlers_exits_with_all_faults(
    module: str, tmp_path: Path, environ: dict[str, str]
) -> None:
    (tmp_path / "misspelt").mkdir()
    (tmp_path / "misspelt" / "__init__.py").write_text(MISSPELT)
    environ |= {"PORT": "0", "HANDLERS": "misspelt", "PYTHONPATH": f"{ROOT}:{tmp_path}", "PATH": os.environ["PATH"]}
    command = [sys.executable, "-m", module, *(["handlers"] if module == "spokes" else [])]
    ended = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=50, check=False)
    assert (ended.returncode, "Traceback" in ended.stderr) == (2, False)
    assert [fault for fault in FAULTS if fault not in ended.stderr] == []


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("from spokes import Contacts", r"broken_\w+/__init__.py:1: .* import raises ImportError: cannot import name"),
        ("import no_such_library", "import raises ModuleNotFoundError: No module named 'no_such_library'"),
        ("def f(:", r"broken_\w+/__init__.py:1: .* import raises SyntaxError: invalid syntax\.$"),
        ("x = 1\0", r"^HANDLERS names .* import raises SyntaxError: source code string cannot contain null bytes\.$"),
        ("import os; os.environ['ERP_URL']", r"KeyError: the environment has no ERP_URL\. .*spokes\.HandlerSettings"),
        ("import os; os.environ['ERP_URL'.lower()]", r"has no erp_url\."),
        (
            "from spokes import uses\nuses(timeout=3)",
            r":2: .*'timeout'\. Did you mean 'timeout_s'\? `@uses\(\.\.\.\)` takes",
        ),
        ("from spokes import uses\n@uses\nasync def f(e, t): ...", r":2: .* each by its name\.$"),
        ("from spokes import Router\nRouter().register('a', 'b')", r":2: .* once for each event type"),
        ("from spokes import Router\nRouter(routers=())", r"Write ROUTER = Router\("),
        ("from spokes import Host\nHost('https://a.example', timeout=4)", r"with rate, connections or timeout_s\.$"),
        ("value = {}['secret value']", r"broken_\w+/__init__.py:1: .* import raises KeyError\.$"),
    ],
)
def test_package_that_cannot_be_imported_is_refused_with_the_place(
    source: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = f"broken_{abs(hash(source))}"
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigurationError, match=sentence):
        load_router(package)


@pytest.mark.parametrize(
    ("event_type", "meant"),
    [("p50112233_cars.creation", "2-1234567.creation"), ("p1_a.changed", "2-1234567.propertyChange")],
)
def test_name_of_a_custom_object_is_refused_because_events_have_its_id(event_type: str, meant: str) -> None:
    with pytest.raises(ValueError, match=f"by their id. Write it: '{meant}'"):
        registration_key(event_type)


@pytest.mark.parametrize("value", [1, "yes", None, []])
def test_each_event_is_true_or_false(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="`each_event` takes True or False"):
        uses(each_event=value)


def test_second_declaration_of_a_handler_is_refused() -> None:
    with pytest.raises(
        ConfigurationError, match=r"test_registrations\.py:\d+: \w+ has two @uses, .*declare everything in one"
    ):
        uses(may=("contacts.update",))(uses(may=("deals.update",))(undeclared))


async def undeclared(event: Event, tools: Tools) -> None:
    """Do nothing."""


@pytest.mark.parametrize("other", [importlib, [Router()], "contacts"])
def test_router_combines_routers_only(other: Any) -> None:
    with pytest.raises(
        ConfigurationError, match=r"^tests/.*:\d+: Router\(\.\.\.\) combines routers, such as contacts\.router"
    ):
        Router(other)
