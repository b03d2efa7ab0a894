"""Tokens that HubSpot has issued and SQL has not stored yet: sealed in Redis until SQL answers again.

With rotation, HubSpot accepts only the newest refresh token. If it were lost, the portal would need a reinstall.
"""

from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from spokes.core.errors import CRMUnavailable, SecretUnreadable
from spokes.core.vault import Vault
from spokes.crm.transport.stored_secrets import StoredSecrets
from spokes.portals.tokens import Tokens, tokens_from_json, tokens_to_json

_NAME: Final = "pending_tokens"
log = structlog.get_logger()


def log_unreadable(portal_id: int) -> None:
    """Log that none of our keys opens a portal's tokens."""
    log.error("portal_tokens_unreadable", portal_id=portal_id, advice="Add the earlier key to SECRETS_KEY.")


@dataclass(frozen=True, slots=True)
class PendingTokens:
    """Tokens, and the generation that they replace."""

    generation: int
    tokens: Tokens


class PendingTokenStore:
    """The pending tokens of all portals."""

    def __init__(self, redis: Redis, vault: Vault) -> None:
        self._secrets = StoredSecrets(redis, vault)

    async def put(self, portal_id: int, pending: PendingTokens) -> None:
        """Keep tokens; without Redis too, only this process has them."""
        with suppress(RedisError, OSError, TimeoutError):
            await self._secrets.put(portal_id, _NAME, f"{pending.generation} {tokens_to_json(pending.tokens)}")

    async def read(self, portal_id: int) -> PendingTokens | None:
        """Return the pending tokens of a portal, None without any.

        Raises:
            CRMUnavailable: Redis does not answer, or none of our keys opens them. The stored refresh token may be
                replaced by then: HubSpot would refuse it, and the portal would need a reinstall.
        """
        try:
            text = await self._secrets.read(portal_id, _NAME)
        except SecretUnreadable:
            log_unreadable(portal_id)
            raise CRMUnavailable from None
        except (RedisError, OSError, TimeoutError):
            raise CRMUnavailable from None
        if text is None:
            return None
        generation, _, tokens = text.partition(" ")
        return PendingTokens(int(generation), tokens_from_json(tokens))

    async def delete(self, portal_id: int) -> None:
        """Delete the pending tokens of a portal."""
        with suppress(RedisError, OSError, TimeoutError):  # their generation is over: they are not used
            await self._secrets.delete(portal_id, _NAME)
