"""The lists of our packages in pyproject.toml, the Makefile and the mutation runs agree."""

import re
import tomllib

from tests.support.deployment import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
WHEEL = {"ingest", "spokes", "workers"}
TYPED = WHEEL | {"chaos", "handlers"}
LIBRARY = {f"spokes.{path.parent.name}" for path in (ROOT / "spokes").glob("*/__init__.py")}
NOT_COVERED = {
    "spokes.console",
    "spokes.simulator",
    "spokes.testing",
}  # tools for people; their tests are not measured by branch


def test_wheel_holds_the_product_without_handlers() -> None:
    include = PYPROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    assert include == sorted(f"{package}*" for package in WHEEL)


def test_mypy_checks_every_package_but_scripts_and_tests() -> None:
    assert PYPROJECT["tool"]["mypy"]["packages"] == sorted(TYPED)


def test_isort_knows_every_importable_package() -> None:
    assert PYPROJECT["tool"]["ruff"]["lint"]["isort"]["known-first-party"] == sorted(TYPED | {"tests"})


def test_make_works_on_every_folder_with_python_code() -> None:
    (sources,) = re.findall(r"^SOURCES := (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    folders = {path.parent.name for path in ROOT.glob("*/*.py")}
    assert set(sources.split()) == TYPED | {"bench", "tests"} == folders


def test_coverage_measures_the_product_but_console_simulator_and_test_kit() -> None:
    measured = PYPROJECT["tool"]["coverage"]["run"]["source_pkgs"]
    assert set(measured) == (WHEEL - {"spokes"}) | (LIBRARY - NOT_COVERED)


def test_import_contracts_cover_every_package_of_the_product() -> None:
    assert PYPROJECT["tool"]["importlinter"]["root_packages"] == sorted(WHEEL | {"handlers"})


def test_mutation_runs_copy_every_typed_package() -> None:
    text = (ROOT / "bench" / "mutating" / "runs.py").read_text()
    (packages,) = re.findall(r"^_PACKAGES: Final = \((.+)\)$", text, re.MULTILINE)
    assert [name.strip(' "') for name in packages.split(",")] == sorted(TYPED)
