"""Whether the audit's chain holds, while somebody waits. Rule: the chain is of all portals, for who sees all."""

import asyncio
from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.verify import VerificationResult, verify
from spokes.console.queries.portal_scope import Portals
from spokes.core.errors import HttpProblem

_TIMEOUT_S: Final = 25.0  # a router of Heroku gives up after 30 s


async def recompute_chain(engine: AsyncEngine, portals: Portals, *, master: str) -> VerificationResult:
    """Recompute the chain from its first record.

    Raises:
        Problem: 403 the asker sees some portals only, 503 the chain is too long to wait for.
        AuditUnavailable: the store does not answer.
    """
    if portals is not None:
        raise HttpProblem(403, "not_permitted", "The chain is of all portals; you see some of them.")
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            return await verify(engine, master_key=master)
    except TimeoutError:
        told = "The chain is too long to recompute while somebody waits; run `spokes audit verify`."
        raise HttpProblem(503, "chain_too_long", told) from None
