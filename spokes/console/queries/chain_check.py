"""Verify the audit chain within the time limit of a request.

The chain spans all portals, so only actors who may see all of them may verify it.
"""

import asyncio
from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.verify import VerificationResult, verify
from spokes.console.queries.portal_scope import Portals
from spokes.core.errors import HttpProblem

_TIMEOUT_S: Final = 25.0  # Heroku's router gives up after 30 s


async def recompute_chain(engine: AsyncEngine, portals: Portals, *, master: str) -> VerificationResult:
    """Recompute the chain from its first record.

    Raises:
        HttpProblem: 403 the actor may not see all portals, 503 verifying takes longer than a client waits.
        AuditUnavailable: the store does not answer.
    """
    if portals is not None:
        raise HttpProblem(403, "not_permitted", "The chain spans all portals, and you may see only some.")
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            return await verify(engine, master_key=master)
    except TimeoutError:
        detail = "Verifying the chain takes too long for a request. Run `spokes audit verify`."
        raise HttpProblem(503, "chain_too_long", detail) from None
