"""Handlers that register for installs and uninstalls."""

from spokes import Event, Router, Tools

ROUTER = Router()


@ROUTER.register("portal.installed")
async def welcome(event: Event, tools: Tools) -> None: ...


@ROUTER.register("portal.uninstalled")
async def part(event: Event, tools: Tools) -> None: ...
