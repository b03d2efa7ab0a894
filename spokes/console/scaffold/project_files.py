"""The files of a new project, from templates. Pure."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from spokes.core.version import VERSION

_TEMPLATES: Final[Mapping[str, str]] = {
    "{package}/__init__.py": "package.py",
    "{package}/handlers/__init__.py": "handlers.py",
    "{package}/handlers/contacts.py": "contacts.py",
    "tests/test_contacts.py": "test_contacts.py",
    ".github/workflows/check.yml": "check.yml",
    ".dockerignore": "dockerignore",
    ".env.example": "env.example",
    ".gitignore": "gitignore",
    "Dockerfile": "Dockerfile",
    "Makefile": "Makefile",
    "Procfile": "Procfile",
    "README.md": "README.md",
    "app.json": "app.json",
    "pyproject.toml": "pyproject.toml",
    "requirements.txt": "requirements.txt",
    "requirements-dev.txt": "requirements-dev.txt",
}


class Project(NamedTuple):
    """What the templates are filled with; `wheel` is the file name of a local wheel, empty for the package index."""

    name: str
    package: str
    wheel: str = ""

    @property
    def requirement(self) -> str:
        """The line of requirements.txt that installs Spokes, within its major version."""
        next_major = int(VERSION.partition(".")[0]) + 1
        return f"./wheels/{self.wheel}" if self.wheel else f"spokes-hubspot>={VERSION},<{next_major}"


def project_files(project: Project) -> dict[str, str]:
    """Return the text of each file by its path in the project."""
    environment = Environment(
        loader=PackageLoader("spokes.console.scaffold"),
        autoescape=False,  # noqa: S701 - the files are no HTML
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return {
        path.format(package=project.package): environment.get_template(f"{template}.jinja").render(project=project)
        for path, template in _TEMPLATES.items()
    }
