"""spokes: the public API for handler authors, loaded lazily."""

import ast
import importlib
import subprocess
import sys
import warnings
from types import ModuleType

import pytest

import spokes
from spokes import CRMError, errors
from spokes.console.scaffold.project_files import Project, project_files
from tests.support.deployment import ROOT

PUBLIC_MODULES = {"spokes", "spokes.errors", "spokes.testing"}


def type_checking_imports() -> dict[str, str]:
    """Return the names that type checkers see, with the module of each."""
    tree = ast.parse((ROOT / "spokes" / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}


def imported_modules(source: str) -> set[str]:
    """Return the modules that a file imports from, without those of the standard library."""
    nodes = list(ast.walk(ast.parse(source)))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    modules = plain | {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    return {module for module in modules if module.partition(".")[0] not in sys.stdlib_module_names}


def subclasses(error: type[Exception]) -> set[type[Exception]]:
    return {error}.union(*(subclasses(each) for each in error.__subclasses__()))


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


def test_errors_has_every_error_that_spokes_has() -> None:
    names = {name for name in spokes.__all__ if getattr(spokes, name) in vars(errors).values()}
    assert names < set(errors.__all__)
    assert names == {name for name in spokes.__all__ if spokes._MODULE_OF[name] == "spokes.core.errors"}


def test_errors_has_every_error_of_a_call_to_hubspot() -> None:
    assert {error.__name__ for error in subclasses(CRMError)} <= set(errors.__all__)


@pytest.mark.parametrize("module", [spokes, errors])
def test_old_name_warns_with_its_replacement(module: ModuleType) -> None:
    with pytest.deprecated_call(match=rf"{module.__name__}\.UnclearReference is renamed to .*\.AmbiguousReference;"):
        value = module.UnclearReference
    assert value is errors.AmbiguousReference


def test_warning_about_an_old_name_points_to_the_import() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        exec("from spokes import Fates", {})  # noqa: S102 - type checkers do not know the old name
    assert {warning.filename for warning in caught} == {"<string>"}


def test_handlers_import_only_the_public_api() -> None:
    imported = {module for path in (ROOT / "handlers").glob("*.py") for module in imported_modules(path.read_text())}
    assert imported <= {"handlers", *PUBLIC_MODULES}


def test_new_project_imports_only_the_public_api() -> None:
    files = project_files(Project("my-crm", "my_crm"))
    imported = {module for path, text in files.items() if path.endswith(".py") for module in imported_modules(text)}
    assert imported == {"my_crm.handlers", "spokes", "spokes.testing"}
