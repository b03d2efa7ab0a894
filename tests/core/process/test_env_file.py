"""spokes.core.process.env_file: settings for development, below the environment, and never in production."""

from pathlib import Path

import pytest

from spokes.core.errors import ConfigurationError
from spokes.core.process.env_file import read_env_file
from spokes.core.settings import Settings
from tests.support.command_line import spokes_process
from tests.support.deployment import ROOT


def read(folder: Path, text: str, **environ: str) -> dict[str, str]:
    """Return `environ` after a file with `text` was read."""
    file = folder / "settings.env"
    file.write_text(text)
    environ = {"ENV_FILE": str(file), **environ}
    read_env_file(environ)
    return {name: value for name, value in environ.items() if name != "ENV_FILE"}


def test_file_sets_what_the_environment_does_not_set(tmp_path: Path) -> None:
    text = "# comment\nPORT=9000\nexport LOG_LEVEL=\"DEBUG\"\nDATA_DIR='a b'\nHUBSPOT_ACCESS_TOKEN=\n"
    assert read(tmp_path, text, LOG_LEVEL="ERROR") == {"PORT": "9000", "LOG_LEVEL": "ERROR", "DATA_DIR": "a b"}


def test_dollar_sign_in_a_value_is_kept(tmp_path: Path) -> None:
    assert read(tmp_path, "REDIS_URL=redis://:p${HOME}x@h\n") == {"REDIS_URL": "redis://:p${HOME}x@h"}


@pytest.mark.parametrize("mark", [{"DYNO": "web.1"}, {"ENV": "production"}, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}])
def test_production_reads_no_file(tmp_path: Path, mark: dict[str, str]) -> None:
    assert read(tmp_path, "PORT=9000\n", **mark) == mark


@pytest.mark.parametrize("text", ["PORT=9000\nnot an assignment\n", 'PORT="9000\n'])
def test_line_that_assigns_nothing_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"ENV_FILE: line \d of .* is not NAME=value|not of the form"):
        read(tmp_path, text)


def test_file_that_does_not_exist_is_an_error_only_if_it_was_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="ENV_FILE"):
        read_env_file({"ENV_FILE": str(tmp_path / "none")})


def test_file_that_is_no_text_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match="UTF-8"):
        read_env_file({"ENV_FILE": str(tmp_path / "binary")})


def test_command_reads_the_file(tmp_path: Path) -> None:
    file = tmp_path / "settings.env"
    file.write_text("PORT=many\n")
    done = spokes_process({"ENV_FILE": str(file)}, "migrate")
    assert (done.returncode, done.stderr) == (2, "PORT must be a whole number, such as 8080.\n")


def test_example_file_names_settings_of_the_readme() -> None:
    names = {
        line.partition("=")[0].lstrip("# ") for line in (ROOT / ".env.example").read_text().splitlines() if "=" in line
    }
    assert names <= {name.upper() for name in Settings.model_fields}
    assert {"HUBSPOT_CLIENT_SECRET", "HUBSPOT_ACCESS_TOKEN", "PUBLIC_URL"} <= names
