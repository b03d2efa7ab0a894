"""The HubSpot project of a new project: the app and the subscriptions that its first handler needs."""

from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import TYPE_CHECKING, Final

from spokes.console.scaffold.project_files import Project
from spokes.core.settings import Settings
from spokes.routing import Router
from spokes.subscriptions.desired_state import desired_state
from spokes.subscriptions.project.export import export_to_project, write_export
from spokes.subscriptions.project.project_files import read_project

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_EXAMPLE_URL: Final = "https://hooks.example.com"


def write_hubspot_project(folder: Path, project: Project) -> None:
    """Write what `spokes subscriptions export` would write for the handlers in `folder`."""
    handlers = folder / project.package / "handlers" / "contacts.py"
    desired = desired_state(_router_of(handlers), Settings.from_env({"PUBLIC_URL": _EXAMPLE_URL}))
    hubspot = folder / "hubspot"
    write_export(hubspot, export_to_project(read_project(hubspot, name=project.name, auth="static"), desired))


class _Loader(SourceFileLoader):
    """Loads a file of the new project, and leaves no compiled file in it."""

    def set_data(self, path: str, data: "ReadableBuffer", *, _mode: int = 0o666) -> None:
        """Write nothing."""


def _router_of(file: Path) -> Router:
    """Import a file of handlers that we wrote, under no name that another import could find."""
    loader = _Loader(file.stem, str(file))
    spec = spec_from_loader(file.stem, loader)
    if spec is None:
        raise ImportError(file)
    module = module_from_spec(spec)
    loader.exec_module(module)
    router: Router = module.router
    return router
