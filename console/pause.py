"""`pause` and `resume`: a portal's work by hand. Rule: paused work waits in the queue, and nothing is lost of it."""

import asyncio
import sys
from datetime import UTC, datetime
from typing import Annotated

import typer

from core.connections import redis_client
from core.settings import Settings
from workers.circuit import OPERATOR, Circuit, Pause

Portal = Annotated[int | None, typer.Argument(help="The portal's id; without it, what is paused is shown.")]


def pause(portal_id: Portal = None) -> None:
    """Let a portal's work wait until it is resumed; the door goes on taking events.

    Example: spokes pause 50112233
    """
    settings = Settings.from_env()
    for paused, why in sorted(asyncio.run(_pause(settings, portal_id)).items()):
        print(f"{paused}  {why.why}  since {_shown(why.since)}" + (f"  until {_shown(why.until)}" if why.until else ""))
    print("Workers go on with the queue of a resumed portal within seconds.", file=sys.stderr)


def resume(portal_id: Annotated[int, typer.Argument(help="The portal's id.")]) -> None:
    """Let a portal's work go on, whatever paused it.

    Example: spokes resume 50112233
    """
    resumed = asyncio.run(_resume(Settings.from_env(), portal_id))
    print(f"{portal_id} goes on." if resumed else f"{portal_id} was not paused.")


async def _pause(settings: Settings, portal_id: int | None) -> dict[int, Pause]:
    async with redis_client(settings) as redis:
        circuit = Circuit(redis)
        if portal_id is not None:
            await circuit.pause(portal_id, OPERATOR)
        return await circuit.pauses()


async def _resume(settings: Settings, portal_id: int) -> bool:
    async with redis_client(settings) as redis:
        return await Circuit(redis).resume(portal_id)


def _shown(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
