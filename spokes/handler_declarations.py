"""What handlers declare, one declaration for each registration."""

from collections.abc import Iterable

from spokes.crm.scopes import Declaration
from spokes.routing import Route


def handler_declarations(registrations: Iterable[tuple[str, Route]]) -> list[Declaration]:
    """Return the declarations of some registrations, or of a router, which yields all of its own."""
    return [Declaration(claim.partition(".")[0], route.uses.reads, route.uses.may) for claim, route in registrations]
