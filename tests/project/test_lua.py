"""Every Lua script compiles under the Lua version of Redis and lies in a file of its own."""

from pathlib import Path

import lupa.lua51 as lua
import pytest

from tests.support.deployment import ROOT

FOLDERS = ("spokes", "ingest", "workers")
SCRIPTS = sorted(path.relative_to(ROOT).as_posix() for folder in FOLDERS for path in (ROOT / folder).rglob("*.lua"))


def compile_error(source: str) -> str | None:
    """Return what Lua 5.1 says about a chunk that does not compile."""
    compiled = lua.LuaRuntime().eval("loadstring")(source)
    return str(compiled[1]) if isinstance(compiled, tuple) else None


@pytest.mark.parametrize("script", SCRIPTS)
def test_script_compiles(script: str) -> None:
    assert compile_error((ROOT / script).read_text()) is None


def test_broken_script_would_be_found() -> None:
    assert "'='" in (compile_error("local answer = = 1") or "")


def test_no_script_is_written_inside_python() -> None:
    modules = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    assert [str(path.relative_to(ROOT)) for path in modules if "redis.call(" in path.read_text()] == []


def test_every_script_has_a_module_that_loads_it() -> None:
    source = "\n".join(path.read_text() for path in ROOT.rglob("*.py") if not set(path.parts) & {".venv", "tests"})
    assert [script for script in SCRIPTS if Path(script).name not in source] == []
