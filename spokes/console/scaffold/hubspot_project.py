"""The HubSpot project of a new project: the app and the subscriptions that its first handler needs."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Final

from spokes.console.scaffold.project_files import Project
from spokes.core.settings import Settings
from spokes.routing import Router
from spokes.subscriptions.desired_state import desired_state
from spokes.subscriptions.project.export import export_to_project, write_export
from spokes.subscriptions.project.project_files import read_project

_EXAMPLE_URL: Final = "https://hooks.example.com"


def write_hubspot_project(folder: Path, project: Project) -> None:
    """Write what `spokes subscriptions export` would write for the handlers in `folder`."""
    handlers = folder / project.package / "handlers" / "contacts.py"
    desired = desired_state(_router_of(handlers), Settings.from_env({"PUBLIC_URL": _EXAMPLE_URL}))
    hubspot = folder / "hubspot"
    write_export(hubspot, export_to_project(read_project(hubspot, name=project.name, auth="static"), desired))


def _router_of(file: Path) -> Router:
    """Import a file of handlers that we wrote, under no name that another import could find."""
    spec = spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise ImportError(file)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    router: Router = module.router
    return router
