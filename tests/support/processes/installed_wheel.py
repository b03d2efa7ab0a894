"""The wheel in an environment of its own, as the project of somebody else has it."""

import contextlib
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from tests.support.deployment import ROOT

PACKAGES = ("ingest", "spokes", "workers")


class Installation(NamedTuple):
    """An environment with the wheel, and nothing else of this project."""

    wheel: Path
    script: Path

    def run(self, folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run `spokes` in a folder until it ends."""
        return subprocess.run(
            [str(self.script), *arguments], cwd=folder, env=environment(environ), capture_output=True, text=True,
            timeout=180, check=False,
        )  # fmt: skip

    @contextlib.contextmanager
    def start(self, folder: Path, *arguments: str, **environ: str) -> Iterator[subprocess.Popen[str]]:
        """Run `spokes` in a folder until the block ends; it must end well."""
        process = subprocess.Popen(
            [str(self.script), *arguments], cwd=folder, env=environment(environ), stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        try:
            yield process
        finally:
            process.terminate()
            output, _ = process.communicate(timeout=180)
        assert process.returncode == 0, output


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "PORT": "0", **environ}


def install_wheel(base: Path) -> Installation:
    """Build the wheel from a copy of the tree and install it; its dependencies are those of this environment."""
    for name in (*PACKAGES, "handlers", "tests"):
        shutil.copytree(ROOT / name, base / "tree" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, base / "tree")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = [*pip, "wheel", "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", str(base), "."]
    subprocess.run(build, cwd=base / "tree", check=True, timeout=200)
    [wheel] = base.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(base / "venv")], check=True, timeout=200)
    python = base / "venv" / "bin" / "python"
    install = [*pip, "--python", str(python), "install", "--no-index", "--no-deps", str(wheel)]
    subprocess.run(install, check=True, timeout=200)
    [packages] = (base / "venv" / "lib").glob("python*/site-packages")
    found = {path for path in sys.path if path.endswith("-packages")} | {sysconfig.get_path("purelib")}
    (packages / "dependencies.pth").write_text("\n".join(sorted(found)))
    return Installation(wheel, python.with_name("spokes"))


def wait_for(process: subprocess.Popen[str], text: str) -> str:
    """Return the first line of the output that contains the text."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return line
    raise AssertionError("".join(lines))
