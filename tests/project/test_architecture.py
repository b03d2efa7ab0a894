"""The architecture: which modules load what, sizes of files, pure modules, and documents that agree with the code."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ingest.journal.errors  # noqa: F401 - a part of the tree of errors
import spokes.core.errors
import spokes.crm.batching.errors  # a part of the tree
import spokes.http.errors  # as above
import spokes.portal  # as above
import spokes.portals.oauth_errors  # as above
import spokes.subscriptions.push.api  # as above
import spokes.tools  # as above
from spokes.core.errors import SpokesError
from spokes.core.settings import Settings
from tests.support.deployment import ROOT

PACKAGES = ("handlers", "ingest", "spokes", "workers")
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for package in PACKAGES
    for path in (ROOT / package).rglob("*.py")
    if "migrations" not in path.parts
)
IMPURE = {
    "asyncio", "os", "random", "redis", "secrets", "socket", "subprocess", "time", "uuid", "spokes.core.clock",
    "datetime.now", "datetime.today",
    *(f"random.{name}" for name in ("choice", "choices", "getrandbits", "randint", "random", "randrange", "uniform")),
}  # fmt: skip


def source(module: str) -> str:
    path = ROOT / Path(*module.split("."))
    return (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text()


def loaded_by(*modules: str) -> set[str]:
    """Return the modules that a fresh interpreter has loaded after importing `modules`, with warnings as errors."""
    code = f"import sys\nfor name in {modules!r}: __import__(name)\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_loads_with_warnings_as_errors(package: str) -> None:
    modules = [name for name in MODULES if name.split(".")[0] == package]
    assert set(modules) <= loaded_by(*modules)


def test_web_process_loads_neither_hubspots_client_nor_sql_nor_arq() -> None:
    loaded = loaded_by("ingest.__main__")
    assert not loaded & {"hubspot", "sqlalchemy", "alembic", "arq", "requests", "asyncpg"}


def test_handlers_and_stream_load_neither_hubspots_client_nor_sql() -> None:
    assert not loaded_by("handlers", "spokes.audit.stream") & {"hubspot", "sqlalchemy", "arq", "aiohttp"}


def test_contracts_of_core_load_no_network_library() -> None:
    assert not loaded_by("spokes.core.events", "spokes.core.delivery", "spokes.core.errors", "spokes.core.masking") & {
        "aiohttp",
        "redis",
        "arq",
    }


def test_every_package_has_a_docstring() -> None:
    for package in PACKAGES:
        assert (ROOT / package / "__init__.py").read_text().startswith('"""'), package


def test_every_module_has_a_docstring() -> None:
    for name in MODULES:
        assert source(name).startswith('"""'), name


def uses_clock_or_chance(tree: ast.Module) -> bool:
    """Return whether a module reads the clock, draws from the global random generator, or does I/O."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = {alias.name.partition(".")[0] for alias in node.names} - {"random"}
        elif isinstance(node, ast.ImportFrom):
            names = {(node.module or "").partition(".")[0], *(f"{node.module}.{alias.name}" for alias in node.names)}
            names -= {"random"} if {alias.name for alias in node.names} == {"Random"} else set()
        elif isinstance(node, ast.Attribute):
            names = {ast.unparse(node)}
        else:
            continue
        if names & IMPURE:
            return True
    return False


def test_pure_modules_use_neither_clock_nor_chance_nor_io() -> None:
    pure = [name for name in MODULES if re.search(r"\bPure\b", ast.get_docstring(ast.parse(source(name))) or "")]
    assert "spokes.audit.chain" in pure
    assert [name for name in pure if uses_clock_or_chance(ast.parse(source(name)))] == []


def test_docstring_of_errors_draws_the_class_tree() -> None:
    def drawn(error: type[Exception], depth: int) -> list[str]:
        return [error.__name__, *(line for child in error.__subclasses__() for line in drawn(child, depth + 1))]

    text = spokes.core.errors.__doc__ or ""
    in_text = [
        line.replace("│", " ").replace("├──", " ").replace("└──", " ").split()[0] for line in text.splitlines()[2:]
    ]
    assert sorted(in_text) == sorted(drawn(SpokesError, 0))  # siblings are in the order in which they were loaded


def test_no_module_has_more_than_400_lines() -> None:
    lengths = {
        path: len(path.read_text().splitlines()) for package in PACKAGES for path in (ROOT / package).rglob("*.py")
    }
    assert {str(path): lines for path, lines in lengths.items() if lines > 400} == {}


def test_tree_contains_no_address_of_a_package_registry() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    hosts = ("pypi" + ".org", "python" + "hosted", "npmjs" + ".", "debian" + ".org")
    assert [name for name in tracked if any(host in (ROOT / name).read_text(errors="ignore") for host in hosts)] == []


def test_readme_names_every_setting() -> None:
    readme = (ROOT / "README.md").read_text()
    assert [name for name in Settings.model_fields if f"`{name.upper()}`" not in readme] == []


def test_defaults_in_the_readme_are_those_of_the_settings() -> None:
    """Covers the rows with each default as code; rows that describe theirs in words are left to readers."""
    wrong = {}
    for names, defaults in re.findall(
        r"^\| (`[A-Z_`, ]+`) \| .* \| (`[^|]+`) \|$", (ROOT / "README.md").read_text(), re.MULTILINE
    ):
        variables = [name.strip("`") for name in names.split(", ")]
        values = [default.strip("`") for default in defaults.split(", ")]
        if len(values) == len(variables):
            documented = Settings.from_env(dict(zip(variables, values, strict=True)))
            wrong |= {
                name: value
                for name, value in zip(variables, values, strict=True)
                if getattr(documented, name.lower()) != Settings.model_fields[name.lower()].default
            }
    assert wrong == {}
