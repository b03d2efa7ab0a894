"""Verification with everything that is known about the chain outside its tables: Redis' end and kept checkpoints."""

from collections.abc import Sequence

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.checkpoints import Checkpoint
from spokes.audit.evidence.chain_end import ChainEnd, KnownEnd
from spokes.audit.evidence.checkpoint_target import kept_checkpoints
from spokes.audit.verification.verify import Progress, VerificationResult, verify
from spokes.core.master_key import load_master_key
from spokes.core.settings import Settings


async def load_known_end(settings: Settings, redis: Redis) -> KnownEnd:
    """Return the chain's end as Redis keeps it. Load it before verifying: the chain may grow while it is verified.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    return await ChainEnd(redis, load_master_key(settings)).load()


async def verify_fully(
    settings: Settings,
    engine: AsyncEngine,
    known: KnownEnd,
    *,
    checkpoints: Sequence[Checkpoint] = (),
    investigated_seq: int = 0,
    progress: Progress | None = None,
) -> VerificationResult:
    """Verify the chain with `known`, the file of CHECKPOINT_TO, and `checkpoints` that the caller keeps elsewhere.

    The other arguments are those of `spokes.audit.verification.verify.verify`.

    Raises:
        AuditUnavailable: the store or the file of CHECKPOINT_TO does not answer, or a checkpoint is not genuine.
    """
    kept = kept_checkpoints(settings.checkpoint_to.get_secret_value())
    return await verify(
        engine,
        progress,
        master_key=load_master_key(settings),
        checkpoints=[*checkpoints, *kept],
        known=known,
        checkpoint_every=settings.checkpoint_every,
        investigated_seq=investigated_seq,
    )
