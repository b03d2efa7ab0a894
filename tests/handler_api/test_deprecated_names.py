"""spokes.core.deprecation: renamed parts of the handler API keep their old name for one release, with a warning."""

import importlib
import warnings
from types import SimpleNamespace
from typing import Any

import pytest

from spokes import ItemResult, ItemResults, Record, Router, Tools, where
from spokes.core.errors import ObjectNotFound


def tools() -> Any:
    parts: Any = SimpleNamespace()
    return Tools(SimpleNamespace(default_region="US", oldest_value="+1"), parts, 1, 2)


@pytest.mark.parametrize(
    ("instance", "old", "new"),
    [
        (tools(), "standing", "current_value"),
        (tools(), "forget", "purge"),
        (tools(), "region", "default_region"),
        (tools(), "first_value", "oldest_value"),
        (tools(), "older", "coalesced_count"),
        (Router(), "fetch", "match"),
        (Router(), "claims", "registrations"),
        (Record("1", "contact", {}), "told_at", "event_value_at"),
        (Record("1", "contact", {}), "rests_on", "as_of"),
        (ItemResults(()), "require", "raise_for_errors"),
        (where("email"), "differs_from", "not_equals"),
        (where("email"), "has_word", "contains_token"),
        (where("email"), "lacks_word", "not_contains_token"),
    ],
)
def test_old_name_of_an_attribute_warns_and_works(instance: object, old: str, new: str) -> None:
    with pytest.deprecated_call(match=rf"{type(instance).__name__}\.{old} is renamed to \w+\.{new};"):
        value = getattr(instance, old)
    assert value == getattr(instance, new)


def test_old_name_of_a_method_can_be_called() -> None:
    results = ItemResults((ItemResult("7", error=ObjectNotFound()),))
    with pytest.deprecated_call(), pytest.raises(ObjectNotFound):
        results.require()


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("spokes.core.errors", "UnclearReference", "AmbiguousReference"),
        ("spokes.crm.results", "Fate", "ItemResult"),
        ("spokes.crm.results", "Fates", "ItemResults"),
        ("spokes.crm.associations", "Associated", "AssociatedObject"),
    ],
)
def test_old_name_of_a_class_warns_and_is_the_class(module: str, old: str, new: str) -> None:
    loaded = importlib.import_module(module)
    with pytest.deprecated_call(match=rf"{old} is renamed to {module}\.{new};"):
        value = getattr(loaded, old)
    assert value is getattr(loaded, new)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Fete'"):
        importlib.import_module("spokes.crm.results").Fete  # noqa: B018 - reading it is the test


def test_warning_points_to_the_line_that_uses_the_old_name() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _ = Router().claims
    assert [warning.filename for warning in caught] == [__file__]
