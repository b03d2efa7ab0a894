"""`new`: write a project with one handler, its test, and the files to deploy it."""

import shutil
from pathlib import Path
from typing import Annotated

import typer

from spokes.console.scaffold.hubspot_project import write_hubspot_project
from spokes.console.scaffold.project_files import Project, project_files
from spokes.console.scaffold.project_names import package_of
from spokes.core.errors import ConfigurationError


def new(
    folder: Annotated[Path, typer.Argument(help="The folder to write; its last part is the name, such as my-crm.")],
    wheel: Annotated[
        Path | None, typer.Option(help="Install Spokes from this wheel, which is copied into the project.")
    ] = None,
) -> None:
    """Write a project that depends on Spokes: a handler with its test, a HubSpot app, and the files to deploy both.

    Example: spokes new my-crm
    """
    name = folder.absolute().name
    package = package_of(name)
    _check_free(folder)
    _check_wheel(wheel)
    for path, text in project_files(Project(name, package, wheel.name if wheel else "")).items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    write_hubspot_project(folder, Project(name, package))
    if wheel:
        (folder / "wheels").mkdir()
        shutil.copy(wheel, folder / "wheels" / wheel.name)
    print(f"{folder} is ready. Test it with `cd {folder} && make test`; its README.md says what comes next.")


def _check_free(folder: Path) -> None:
    if folder.is_dir() and any(folder.iterdir()):
        raise ConfigurationError([f"{folder} exists and is not empty, so nothing was written. Name a new folder."])
    if folder.exists() and not folder.is_dir():
        raise ConfigurationError([f"{folder} is a file, so nothing was written. Name a new folder."])


def _check_wheel(wheel: Path | None) -> None:
    if wheel is None:
        return
    if not wheel.is_file() or not wheel.name.startswith("spokes_hubspot-") or wheel.suffix != ".whl":
        raise ConfigurationError(
            [f"--wheel {wheel} is no wheel of spokes-hubspot, such as dist/spokes_hubspot-1.0.0-py3-none-any.whl."]
        )
