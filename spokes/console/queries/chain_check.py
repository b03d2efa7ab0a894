"""Verify the audit chain within the time limit of a request.

The chain spans all portals, so only actors who may see all of them may verify it.
"""

import asyncio
from typing import Final

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.verification.full_verification import load_known_end, verify_fully
from spokes.audit.verification.verify import VerificationResult
from spokes.console.queries.portal_scope import Portals
from spokes.core.errors import HttpProblem
from spokes.core.settings import Settings

_TIMEOUT_S: Final = 25.0  # Heroku's router gives up after 30 s


async def recompute_chain(
    settings: Settings, engine: AsyncEngine, redis: Redis, portals: Portals
) -> VerificationResult:
    """Recompute the chain from its first record, and compare it with its end as Redis keeps it and kept checkpoints.

    Raises:
        HttpProblem: 403 the actor may not see all portals, 503 verifying takes longer than a client waits.
        AuditUnavailable, RedisError, OSError: the store or Redis does not answer.
    """
    if portals is not None:
        raise HttpProblem(403, "not_permitted", "The chain spans all portals, and you may see only some.")
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            return await verify_fully(settings, engine, await load_known_end(settings, redis))
    except TimeoutError:
        detail = "Verifying the chain takes too long for a request. Run `spokes audit verify`."
        raise HttpProblem(503, "chain_too_long", detail) from None
