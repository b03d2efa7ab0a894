"""`handlers`: the handlers of this deployment, listed from what they declare."""

from collections.abc import Iterator
from typing import Final

from spokes.console.output import JsonOption, print_json, print_table
from spokes.crm.scopes import ScopeRequirement, required_scopes
from spokes.handler_declarations import handler_declarations
from spokes.http.hosts import HostLimits
from spokes.routing import Route, load_router
from spokes.run_limits import Rate
from spokes.start_check import read_settings

_OPTIONAL: Final = ("Hosts", "Limits")  # shown if a handler declares any
_PERIODS: Final = {1_000: "s", 60_000: "min", 3_600_000: "h"}


def handlers(as_json: JsonOption = False) -> None:
    """Show every handler: its events, what it reads and may change in HubSpot, the hosts it calls, its limits.

    Example: HANDLERS=my_handlers spokes handlers
    """
    router = load_router(read_settings().handlers)
    claims: dict[str, list[str]] = {}
    routes: dict[str, Route] = {}
    for claim, route in router:
        claims.setdefault(route.name, []).append(claim)
        routes[route.name] = route
    hosts = router.hosts
    if as_json:
        print_json(*(_handler_fields(name, claims[name], route, hosts) for name, route in routes.items()))
        return
    columns = ("Handler", "Events", "Reads", "May call", "Hosts", "Limits", "Description")
    rows = [
        (
            name,
            "\n".join(claims[name]),
            _format_reads(route),
            "\n".join(sorted(route.uses.may)),
            "\n".join(_format_host(origin, hosts[origin]) for origin in sorted(route.uses.calls)),
            "\n".join(_format_limits(route)),
            _first_docstring_line(route),
        )
        for name, route in routes.items()
    ]
    shown = [index for index, name in enumerate(columns) if name not in _OPTIONAL or any(row[index] for row in rows)]
    print_table([columns[index] for index in shown], ([row[index] for index in shown] for row in rows), row_lines=True)


def _handler_fields(name: str, claims: list[str], route: Route, hosts: dict[str, HostLimits]) -> dict[str, object]:
    reads = {service: list(names) for service, names in route.uses.reads.items()}
    limits = route.uses.limits
    declared_limits = {
        "timeout_s": limits.timeout_s,
        "retries": None if limits.retries is None else list(limits.retries),
        "concurrency": limits.concurrency,
        "rate": _format_rate(limits.rate),
    }
    return {
        "handler": name,
        "takes": claims,
        "reads": reads,
        "may": sorted(route.uses.may),
        "scopes": sorted(sorted(alternatives) for alternatives in _scopes(claims, route)),
        "calls": [_host_fields(origin, hosts[origin]) for origin in sorted(route.uses.calls)],
        "limits": {name: value for name, value in declared_limits.items() if value is not None},
        "each_event": route.uses.each_event,
        "does": _first_docstring_line(route),
    }


def _scopes(claims: list[str], route: Route) -> frozenset[ScopeRequirement]:
    return required_scopes(handler_declarations((claim, route) for claim in claims))


def _host_fields(origin: str, limits: HostLimits) -> dict[str, object]:
    rate = _format_rate(limits.rate)
    return {"url": origin, "rate": rate, "connections": limits.connections, "timeout_s": limits.timeout_s}


def _format_reads(route: Route) -> str:
    return "; ".join(f"{service}: {', '.join(names)}" for service, names in route.uses.reads.items())


def _format_host(origin: str, limits: HostLimits) -> str:
    return origin if limits.rate is None else f"{origin}, {_format_rate(limits.rate)}"


def _format_limits(route: Route) -> Iterator[str]:
    limits = route.uses.limits
    if limits.timeout_s is not None:
        yield f"timeout {limits.timeout_s:g} s"
    if limits.retries is not None:
        yield f"retries after {', '.join(f'{delay:g}' for delay in limits.retries)} s" if limits.retries else "no retry"
    if limits.concurrency is not None:
        yield f"concurrency {limits.concurrency}"
    if limits.rate is not None:
        yield f"rate {_format_rate(limits.rate)}"
    if route.uses.each_event:
        yield "each event"


def _format_rate(rate: Rate | None) -> str | None:
    return None if rate is None else f"{rate.starts}/{_PERIODS[rate.period_ms]}"


def _first_docstring_line(route: Route) -> str:
    return (route.function.__doc__ or "").strip().partition("\n")[0]
