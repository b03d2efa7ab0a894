"""The house keeps its own order: every module loads alone, and the web process stays small."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import spokes.core.errors
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


def loaded_by(*modules: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after importing `modules`, with warnings as errors."""
    code = f"import sys\nfor name in {modules!r}: __import__(name)\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_loads_with_warnings_as_errors(package: str) -> None:
    mine = [name for name in MODULES if name.split(".")[0] == package]
    assert set(mine) <= loaded_by(*mine)


def test_web_process_loads_neither_hubspots_client_nor_sql_nor_arq() -> None:
    loaded = loaded_by("ingest.__main__")
    assert not loaded & {"hubspot", "sqlalchemy", "alembic", "arq", "requests", "asyncpg"}


def test_handlers_and_stream_load_neither_hubspots_client_nor_sql() -> None:
    assert not loaded_by("handlers", "spokes.audit.stream") & {"hubspot", "sqlalchemy", "arq", "aiohttp"}


def test_core_opens_nothing() -> None:
    assert not loaded_by("spokes.core.events", "spokes.core.delivery", "spokes.core.errors", "spokes.core.masking") & {
        "aiohttp",
        "redis",
        "arq",
    }


def test_every_folder_says_what_it_is_for() -> None:
    for package in PACKAGES:
        assert (ROOT / package / "__init__.py").read_text().startswith('"""'), package


def test_every_module_states_its_purpose() -> None:
    for name in MODULES:
        path = ROOT / Path(*name.split("."))
        text = (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text()
        assert text.startswith('"""'), name


def test_tree_of_errors_is_drawn_as_it_grows() -> None:
    def drawn(error: type[Exception], depth: int) -> list[str]:
        return [error.__name__, *(line for child in error.__subclasses__() for line in drawn(child, depth + 1))]

    text = spokes.core.errors.__doc__ or ""
    in_text = [
        line.replace("│", " ").replace("├──", " ").replace("└──", " ").split()[0] for line in text.splitlines()[2:]
    ]
    assert in_text == drawn(SpokesError, 0)


def test_no_file_grows_past_a_screenful_of_thought() -> None:
    lengths = {
        path: len(path.read_text().splitlines()) for package in PACKAGES for path in (ROOT / package).rglob("*.py")
    }
    assert {str(path): lines for path, lines in lengths.items() if lines > 400} == {}


def test_no_address_of_a_package_registry_stands_in_the_tree() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    hosts = ("pypi" + ".org", "python" + "hosted", "npmjs" + ".", "debian" + ".org")
    assert [name for name in tracked if any(host in (ROOT / name).read_text(errors="ignore") for host in hosts)] == []


def test_readme_names_every_setting() -> None:
    readme = (ROOT / "README.md").read_text()
    assert [name for name in Settings.model_fields if f"`{name.upper()}`" not in readme] == []


def test_defaults_in_the_readme_are_those_of_the_settings() -> None:
    """Where every default of a row stands in code marks; rows that tell theirs in words are read by people."""
    wrong = {}
    for names, defaults in re.findall(
        r"^\| (`[A-Z_`, ]+`) \| .* \| (`[^|]+`) \|$", (ROOT / "README.md").read_text(), re.MULTILINE
    ):
        settings = [name.strip("`") for name in names.split(", ")]
        told = [default.strip("`") for default in defaults.split(", ")]
        if len(told) == len(settings):
            given = Settings.from_env(dict(zip(settings, told, strict=True)))
            wrong |= {
                name: default
                for name, default in zip(settings, told, strict=True)
                if getattr(given, name.lower()) != Settings.model_fields[name.lower()].default
            }
    assert wrong == {}
