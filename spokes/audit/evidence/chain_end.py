"""The end of the chain, kept signed in Redis: a chain that was shortened or rewritten in SQL contradicts it.

The archiver replaces it after each batch, unless the chain in SQL contradicts it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.checkpoints import Checkpoint, CheckpointKind, load_checkpoints, signing_key
from spokes.audit.rows import Row
from spokes.audit.sql.chain_head import ChainHead
from spokes.core.clock import now_ms
from spokes.core.errors import AuditUnavailable
from spokes.core.redis.keys import AUDIT_CHAIN_END

_END: Final = "end"
_NEWEST: Final = "checkpoint"


@dataclass(frozen=True, slots=True)
class KnownEnd:
    """What Redis keeps: the chain's end after the last batch, and the newest checkpoint; None if unknown."""

    end: Checkpoint | None = None
    newest: Checkpoint | None = None

    @property
    def positions(self) -> tuple[Checkpoint, ...]:
        """The known positions."""
        return tuple(position for position in (self.end, self.newest) if position)


@dataclass(slots=True)
class ChainEnd:
    """Reads and writes the end that Redis keeps."""

    redis: Redis
    master_key: str = field(repr=False)

    async def load(self) -> KnownEnd:
        """Return what Redis keeps, without what was not signed with our key.

        Raises:
            RedisError, OSError: Redis does not answer.
        """
        return self.parse(await self.redis.hgetall(AUDIT_CHAIN_END))  # type: ignore[misc]  # redis-py types one class for sync and async

    def read(self, pipeline: Pipeline) -> None:
        """Read in the caller's pipeline what `parse` takes."""
        pipeline.hgetall(AUDIT_CHAIN_END)

    def parse(self, fields: Mapping[bytes, bytes]) -> KnownEnd:
        """Return what Redis keeps, without what was not signed with our key."""
        return KnownEnd(self._position(fields.get(_END.encode())), self._position(fields.get(_NEWEST.encode())))

    async def require_own_key(self, engine: AsyncEngine) -> None:
        """Check, for a Redis that is new, that the store was signed with our key: it may have been restored alone.

        A Redis that knows an end belongs to the store. There AUDIT_KEY may have been changed on purpose.

        Raises:
            AuditUnavailable: the store was signed with another key, or does not answer.
            RedisError, OSError: Redis does not answer.
        """
        if await self.redis.exists(AUDIT_CHAIN_END):
            return
        checkpoints = await load_checkpoints(engine)
        if checkpoints and not checkpoints[-1].is_genuine(signing_key(self.master_key)):
            raise AuditUnavailable(
                "The audit store was signed with another AUDIT_KEY, and this Redis does not know it, so nothing is "
                "archived. Set the AUDIT_KEY with which the store was written, or DATABASE_URL to another database."
            )

    def write(self, pipeline: Pipeline, last: Row, newest: Checkpoint | None) -> None:
        """Keep, in the caller's pipeline, the chain's last record, and its newest checkpoint if there is a new one."""
        end = Checkpoint(CheckpointKind.CHECKPOINT, int(last["seq"] or 0), str(last["hash"]), now_ms())
        texts = {_END: end.with_signature(signing_key(self.master_key)).to_text()}
        if newest:
            texts[_NEWEST] = newest.to_text()
        pipeline.hset(AUDIT_CHAIN_END, mapping=texts)

    def _position(self, line: bytes | None) -> Checkpoint | None:
        try:
            checkpoint = Checkpoint.from_text((line or b"").decode())
        except (AuditUnavailable, UnicodeDecodeError):
            return None
        return checkpoint if checkpoint.is_genuine(signing_key(self.master_key)) else None


def contradicts(head: ChainHead, end: Checkpoint | None) -> bool:
    """Return whether the chain in SQL is shorter than `end`, or has another record there; a purged one may be missing.

    Args:
        head: read with the hash of the record that `end` names.
        end: what Redis keeps, None if unknown.
    """
    return end is not None and (head.seq < end.seq or head.hash_at not in {None, end.hash})
