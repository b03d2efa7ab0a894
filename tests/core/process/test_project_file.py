"""spokes.core.process.project_file: a project's pyproject.toml names its handlers."""

from pathlib import Path

import pytest

from spokes.core.errors import ConfigurationError
from spokes.core.process.env_file import read_env_file
from spokes.core.process.project_file import handlers_of_project


def write(folder: Path, text: str) -> Path:
    (folder / "pyproject.toml").write_text(text)
    return folder


@pytest.mark.parametrize(
    ("text", "package"),
    [
        ('[tool.spokes]\nhandlers = "my_crm.handlers"\n', "my_crm.handlers"),
        ("[tool.spokes]\n", ""),
        ("[tool.ruff]\nline-length = 100  # as in spokes\n", ""),
        ("", ""),
    ],
)
def test_package_is_read_from_the_table_of_spokes(text: str, package: str, tmp_path: Path) -> None:
    assert handlers_of_project(write(tmp_path, text)) == package


def test_folder_without_project_file_names_no_package(tmp_path: Path) -> None:
    assert handlers_of_project(tmp_path) == ""


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[tool.spokes\n", r"pyproject\.toml cannot be read: .*line 1"),
        ("[tool.spokes]\nhandlers = ['a']\n", r"takes handlers = \"my_handlers\""),
        ("[tool]\nspokes = 'my_crm'\n", r"takes handlers = \"my_handlers\""),
    ],
)
def test_wrong_project_file_is_a_sentence(text: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        handlers_of_project(write(tmp_path, text))


@pytest.mark.parametrize(
    ("environ", "package"),
    [({}, "mine"), ({"HANDLERS": ""}, "mine"), ({"HANDLERS": "other"}, "other"), ({"DYNO": "web.1"}, "mine")],
)
def test_environment_wins_over_the_project_file(
    environ: dict[str, str], package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(write(tmp_path, '[tool.spokes]\nhandlers = "mine"\n'))
    read_env_file(environ)
    assert environ["HANDLERS"] == package
