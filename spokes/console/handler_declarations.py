"""What the handlers of a router declare, one declaration for each registration."""

from spokes.crm.scopes import Declaration
from spokes.routing import Router


def handler_declarations(router: Router) -> list[Declaration]:
    """Return what the handlers declare, one declaration per registration."""
    return [Declaration(claim.partition(".")[0], route.uses.reads, route.uses.may) for claim, route in router]
