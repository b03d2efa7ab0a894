"""spokes: the public API for handler authors, loaded lazily."""

import ast
import importlib
import subprocess
import sys

import pytest

import spokes
from tests.support.deployment import ROOT


def type_checking_imports() -> dict[str, str]:
    """Return the names that type checkers see, with the module of each."""
    tree = ast.parse((ROOT / "spokes" / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}


def test_all_is_sorted_and_has_no_duplicates() -> None:
    assert spokes.__all__ == sorted(set(spokes.__all__))


def test_lazy_table_and_type_checkers_have_exactly_the_names_in_all() -> None:
    assert type_checking_imports() == spokes._MODULE_OF
    assert sorted(spokes._MODULE_OF) == spokes.__all__


@pytest.mark.parametrize("name", spokes.__all__)
def test_every_name_is_the_object_of_its_module(name: str) -> None:
    module = importlib.import_module(spokes._MODULE_OF[name])
    assert getattr(spokes, name) is getattr(module, name)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Evnt'"):
        spokes.Evnt  # noqa: B018 - reading it is the test


def test_dir_lists_the_public_names() -> None:
    assert dir(spokes) == spokes.__all__


def test_importing_spokes_loads_no_other_module_of_ours() -> None:
    code = "import sys, spokes\nprint(*(name for name in sys.modules if name.partition('.')[0] == 'spokes'))"
    command = [sys.executable, "-W", "error", "-c", code]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert finished.stdout.split() == ["spokes"]


def test_handlers_import_only_the_public_api() -> None:
    imported = {
        str(node.module)
        for path in (ROOT / "handlers").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
    }
    assert imported == {"handlers", "spokes"}
