"""Count in Redis how often a request came again; counts submitted during a call share the next one."""

from typing import Final

from redis.exceptions import RedisError

from spokes.core.errors import QueueUnavailable
from spokes.core.redis.group_commit import GroupCommit
from spokes.core.redis.keys import redelivery_count
from spokes.intake.redis_lines import RedisLines

_KEPT_S: Final = 86_400  # as long as HubSpot sends a request again
_MAX_PER_CALL: Final = 200


class RedeliveryCounts:
    """The counts of all web processes."""

    def __init__(self, lines: RedisLines) -> None:
        """Call Redis over `lines`, one call at a time: redeliveries take no connections from admission."""
        self._lines = lines
        self._group_commit = GroupCommit[str, int](self._commit, max_weight=_MAX_PER_CALL)

    async def count(self, portal_id: int, redelivery_id: str) -> int:
        """Count a request; return how often it has come within a day.

        Raises:
            QueueUnavailable: Redis did not confirm.
        """
        return await self._group_commit.submit(redelivery_count(portal_id, redelivery_id))

    async def close(self) -> None:
        """Wait for the call in flight."""
        await self._group_commit.close()

    async def _commit(self, names: list[str]) -> list[int]:
        commands = [command for name in names for command in (("INCR", name), ("EXPIRE", name, _KEPT_S))]
        try:
            replies = await self._lines.call(*commands)
        except (RedisError, OSError, TimeoutError) as error:
            raise QueueUnavailable from error
        return [reply for reply in replies[::2] if isinstance(reply, int)]
