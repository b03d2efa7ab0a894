"""`handlers`: what this deployment does. Rule: derived from what the handlers declare, so it cannot be out of date."""

import sys
from typing import Final

from rich.console import Console
from rich.table import Table

from core.settings import Settings
from handlers.routing import Route, load_router

_WIDTH: Final = 160  # columns, where no terminal says how many there are


def handlers() -> None:
    """Show every handler: what it takes, what it reads and what it may do in HubSpot.

    Example: HANDLERS=my_handlers spokes handlers
    """
    claims: dict[str, list[str]] = {}
    routes: dict[str, Route] = {}
    for claim, route in load_router(Settings.from_env().handlers):
        claims.setdefault(route.name, []).append(claim)
        routes[route.name] = route
    table = Table("Handler", "Takes", "Reads", "May", "Does", show_lines=True)
    for name, route in routes.items():
        table.add_row(name, "\n".join(claims[name]), _reads(route), "\n".join(sorted(route.uses.may)), _does(route))
    Console(width=None if sys.stdout.isatty() else _WIDTH).print(table)


def _reads(route: Route) -> str:
    return "; ".join(f"{service}: {', '.join(names)}" for service, names in route.uses.reads.items())


def _does(route: Route) -> str:
    return (route.function.__doc__ or "").strip().partition("\n")[0]
