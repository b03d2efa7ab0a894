"""Replay and discard quarantined contents for the actor of a request; pages and API share it."""

from collections.abc import Sequence

from aiohttp import web

from spokes.console.accounts.actors import ACTOR, ADDRESS
from spokes.console.quarantine.actions import discard_contents, replay_contents
from spokes.console.quarantine.contents import find_content
from spokes.console.web.actions.dead_letter_actions import LetterAction
from spokes.console.web.app_keys import REDIS, SETTINGS
from spokes.core.errors import ConfigurationError, HttpProblem, QueueUnavailable
from spokes.intake.quarantine_replay import ReplayCounts
from spokes.queue.quarantine import Quarantine, QuarantinedContent


def quarantine_of(request: web.Request) -> Quarantine:
    """Return the quarantine of the request's application."""
    return Quarantine.from_settings(request.app[REDIS], request.app[SETTINGS])


async def find_named_content(request: web.Request) -> QuarantinedContent | None:
    """Return the content that the request's path names, or None if it is gone or of a portal the actor may not see.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    portal_id, key = int(request.match_info["portal"]), request.match_info["key"]
    return await find_content(quarantine_of(request), request[ACTOR].portals, portal_id, key)


async def settle_contents(
    request: web.Request, action: LetterAction, contents: Sequence[QuarantinedContent], reason: str
) -> ReplayCounts:
    """Replay or discard the contents as the request's actor; return how many, and how many are still unreadable.

    Raises:
        HttpProblem: the handlers cannot be loaded, or Redis did not confirm.
        RedisError, OSError: Redis does not answer; some contents may be settled.
    """
    name, address = request[ACTOR].name, request[ADDRESS]
    if action is LetterAction.DISCARD:
        quarantine = quarantine_of(request)
        return ReplayCounts(await discard_contents(quarantine, contents, actor=name, reason=reason, address=address), 0)
    settings, redis = request.app[SETTINGS], request.app[REDIS]
    try:
        return await replay_contents(settings, redis, contents, actor=name, reason=reason, address=address)
    except ConfigurationError:
        detail = "The handlers cannot be loaded: `spokes handlers` shows why. Nothing was replayed."
        raise HttpProblem(409, "handlers_not_loaded", detail) from None
    except QueueUnavailable as error:
        detail = "Redis did not confirm. What is still listed was not replayed; try again."
        raise HttpProblem(503, error.reason, detail, retry_after_s=error.retry_after_s) from None
