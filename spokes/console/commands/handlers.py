"""`handlers`: the handlers of this deployment, listed from what they declare."""

from spokes.console.output import JsonOption, print_json, print_table
from spokes.core.settings import Settings
from spokes.routing import Route, load_router


def handlers(as_json: JsonOption = False) -> None:
    """Show every handler: the events it processes, what it reads and what it may change in HubSpot.

    Example: HANDLERS=my_handlers spokes handlers
    """
    claims: dict[str, list[str]] = {}
    routes: dict[str, Route] = {}
    for claim, route in load_router(Settings.from_env().handlers):
        claims.setdefault(route.name, []).append(claim)
        routes[route.name] = route
    if as_json:
        print_json(*(_handler_fields(name, claims[name], route) for name, route in routes.items()))
        return
    print_table(
        ("Handler", "Events", "Reads", "May call", "Description"),
        (
            (
                name,
                "\n".join(claims[name]),
                _format_reads(route),
                "\n".join(sorted(route.uses.may)),
                _first_docstring_line(route),
            )
            for name, route in routes.items()
        ),
        row_lines=True,
    )


def _handler_fields(name: str, claims: list[str], route: Route) -> dict[str, object]:
    reads = {service: list(names) for service, names in route.uses.reads.items()}
    may, does = sorted(route.uses.may), _first_docstring_line(route)
    return {"handler": name, "takes": claims, "reads": reads, "may": may, "does": does}


def _format_reads(route: Route) -> str:
    return "; ".join(f"{service}: {', '.join(names)}" for service, names in route.uses.reads.items())


def _first_docstring_line(route: Route) -> str:
    return (route.function.__doc__ or "").strip().partition("\n")[0]
