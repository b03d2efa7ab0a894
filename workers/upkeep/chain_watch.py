"""Periodic jobs of the audit chain: keep a checkpoint outside the store, and verify the chain every night."""

from typing import Any

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.audit.checkpoints import sign_end_now, signing_key
from spokes.audit.evidence.checkpoint_target import keep_checkpoint
from spokes.audit.verification.full_verification import load_known_end, verify_fully
from spokes.audit.verification.verify import Tampering
from spokes.core.errors import AuditUnavailable
from spokes.core.master_key import load_master_key
from spokes.core.settings import Settings
from spokes.core.telemetry.alerts import Alert


async def push_checkpoint(settings: Settings, engine: AsyncEngine, episodes: AlertEpisodes) -> None:
    """Sign the chain's end and keep it where CHECKPOINT_TO says; an alert is active while that fails.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    if not (target := settings.checkpoint_to.get_secret_value()):
        return
    fields: dict[str, Any] = {}
    try:
        if checkpoint := await sign_end_now(engine, signing_key(load_master_key(settings))):
            await keep_checkpoint(target, checkpoint)
    except AuditUnavailable as error:
        fields["cause"] = str(error)
    await episodes.set_state(Alert.CHECKPOINT_NOT_KEPT, is_active=bool(fields), **fields)


async def verify_chain(settings: Settings, redis: Redis, engine: AsyncEngine, episodes: AlertEpisodes) -> None:
    """Verify the chain with everything known about it; an alert is active while it is broken.

    Forged stream entries have an alert of their own, when they are found.

    Raises:
        AuditUnavailable: the store, or the file of CHECKPOINT_TO, does not answer.
        RedisError, OSError: Redis does not answer.
    """
    result = await verify_fully(settings, engine, await load_known_end(settings, redis))
    is_broken = not result.is_intact and result.tampering is not Tampering.FORGED
    fields: dict[str, Any] = {"seq": result.seq, "tampering": result.tampering} if is_broken else {}
    await episodes.set_state(Alert.AUDIT_CHAIN_BROKEN, is_active=is_broken, **fields)
