"""spokes.core.process.current_folder: packages of a deployment beside ours."""

import importlib
import sys
from pathlib import Path

import pytest

from spokes.core.errors import ConfigurationError
from spokes.core.process.current_folder import from_current_folder


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


def write_package(folder: Path, name: str, source: str = "PLACE = __file__") -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text(source)


def test_named_package_comes_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_package(tmp_path, "same_name_19")
    write_package(tmp_path / "other", "same_name_19")
    monkeypatch.syspath_prepend(tmp_path / "other")
    with from_current_folder("same_name_19"):
        module = importlib.import_module("same_name_19")
    assert module.__file__ == str(tmp_path / "same_name_19" / "__init__.py")


def test_folder_without_init_file_is_a_package(tmp_path: Path) -> None:
    (tmp_path / "plain_19").mkdir()
    (tmp_path / "plain_19" / "contacts.py").touch()
    with from_current_folder("plain_19"):
        assert importlib.import_module("plain_19.contacts")


def test_other_packages_of_the_folder_replace_no_library(tmp_path: Path) -> None:
    write_package(tmp_path, "wsgiref")
    write_package(tmp_path, "core_19")
    with from_current_folder("anything"):
        assert importlib.import_module("wsgiref").__file__ != str(tmp_path / "wsgiref" / "__init__.py")
    assert importlib.import_module("core_19").__file__ == str(tmp_path / "core_19" / "__init__.py")


@pytest.mark.parametrize("name", ["ingest", "spokes", "workers"])
def test_package_that_is_called_like_ours_is_refused(name: str, tmp_path: Path) -> None:
    write_package(tmp_path, name)
    with pytest.raises(ConfigurationError, match=rf"^{name}: Spokes has a package '{name}' too, .*another name"):
        from_current_folder("handlers").__enter__()


def test_module_that_is_called_like_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "workers.py").touch()
    with pytest.raises(ConfigurationError, match=r"^workers\.py: "):
        from_current_folder("handlers").__enter__()


def test_folder_without_python_files_is_no_package(tmp_path: Path) -> None:
    (tmp_path / "workers").mkdir()
    (tmp_path / "workers" / "index.js").touch()
    with from_current_folder("handlers"):
        pass


def test_deleted_folder_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(ConfigurationError, match="does not exist any more"):
        from_current_folder("handlers").__enter__()
    monkeypatch.chdir(tmp_path)
