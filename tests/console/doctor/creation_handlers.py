"""A package of handlers with one registration."""

from spokes import Event, Router, Tools

ROUTER = Router()


@ROUTER.register("contact.creation")
async def welcome(event: Event, tools: Tools) -> None:
    """Do nothing."""
