"""spokes.core.process.private_files: what Spokes writes can be read by its user only."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from spokes.core.errors import ConfigurationError
from spokes.core.process.private_files import (
    create_private_file,
    folder_problem,
    keep_files_private,
    make_folder,
    private_folder,
)


@pytest.fixture(autouse=True)
def _open_umask() -> Iterator[None]:
    umask = os.umask(0)
    yield
    os.umask(umask)


def mode(path: Path) -> str:
    """Return the permission bits of a file or folder."""
    return oct(stat.S_IMODE(path.stat().st_mode))


def test_folder_and_its_new_parents_are_private(tmp_path: Path) -> None:
    folder = private_folder(tmp_path / "a" / "b")
    assert (mode(folder), mode(folder.parent)) == ("0o700", "0o700")


def test_folder_of_an_earlier_version_becomes_private(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o755)
    assert mode(private_folder(folder)) == "0o700"


def test_current_folder_keeps_its_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "project"
    folder.mkdir(mode=0o755)
    monkeypatch.chdir(folder)
    assert mode(private_folder(Path())) == "0o755"


def test_file_is_private_whether_it_exists_or_not(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("kept")
    for file in (old, new):
        create_private_file(file)
    assert (mode(old), mode(new), old.read_text()) == ("0o600", "0o600", "kept")


def test_process_creates_private_files(tmp_path: Path) -> None:
    keep_files_private()
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    assert (mode(tmp_path / "file"), mode(tmp_path / "folder")) == ("0o600", "0o700")


def test_problem_of_a_folder_is_found_without_creating_it(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert folder_problem(tmp_path / "a" / "b") == ""
    assert folder_problem(file) == "it is a file"
    assert folder_problem(file / "a" / "b") == f"{str(file)!r} is a file"
    assert folder_problem(tmp_path / ("a" * 300) / "b") != ""
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("path", ["/proc/none", "/dev/null", "/dev/null/x", "a" * 300])
def test_folder_that_cannot_be_used_is_one_sentence(path: str) -> None:
    with pytest.raises(ConfigurationError, match="Set DATA_DIR to a folder"):
        make_folder(Path(path))
