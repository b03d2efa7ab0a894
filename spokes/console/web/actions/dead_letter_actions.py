"""Find, replay and discard dead letters for the actor of a request; pages and API share it."""

from collections.abc import Sequence
from enum import StrEnum, unique
from typing import Final

from aiohttp import web

from spokes.console.accounts.actors import ACTOR, ADDRESS
from spokes.console.web.app_keys import REDIS
from spokes.queue.dead_letters import DeadLetter, DeadLetters

_BATCH_SIZE: Final = 100  # letters per call, so that other requests are served in between


@unique
class LetterAction(StrEnum):
    """What an operator can do with a dead letter."""

    REPLAY = "replay"
    DISCARD = "discard"


async def find_letter(request: web.Request) -> DeadLetter | None:
    """Return the letter that the request's path names, or None if it is gone or of a portal the actor may not see.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    portal_id = int(request.match_info["portal"])
    if not request[ACTOR].can_see(portal_id):
        return None
    return await DeadLetters(request.app[REDIS]).get(portal_id, request.match_info["key"])


async def settle_letters(request: web.Request, action: LetterAction, letters: Sequence[DeadLetter], reason: str) -> int:
    """Replay or discard the letters as the request's actor; return how many were still there.

    Raises:
        RedisError, OSError: Redis does not answer; some letters may be settled.
    """
    dead_letters = DeadLetters(request.app[REDIS])
    settle = dead_letters.replay if action is LetterAction.REPLAY else dead_letters.discard
    count = 0
    for start in range(0, len(letters), _BATCH_SIZE):
        batch = letters[start : start + _BATCH_SIZE]
        count += await settle(batch, actor=request[ACTOR].name, reason=reason, address=request[ADDRESS])
    return count
