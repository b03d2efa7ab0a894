"""Whether deliveries can be received now, found by running what a delivery runs; concurrent askers share one check."""

import asyncio
import time
from typing import Final, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import RedisError

from spokes.core.redis.durability import durability_risks
from spokes.core.redis.key_types import ADMISSION_KEYS, wrong_type_sentence, wrong_types
from spokes.core.redis.tls_mismatch import explain_refusal
from spokes.core.settings import Settings
from spokes.intake.admission import probe_admission

_VALID_S: Final = 1.0


class ReadinessState(NamedTuple):
    """Whether deliveries can be received, and what is wrong: sentences, none if all is well."""

    is_ready: bool
    sentences: tuple[str, ...] = ()


class Readiness:
    """Checks at most once a second, with one call at a time, whoever asks."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._settings = settings
        self._check: asyncio.Task[ReadinessState] | None = None
        self._valid_until = 0.0

    async def state(self) -> ReadinessState:
        """Return the state as of at most a second ago."""
        if self._check is None or (self._check.done() and time.monotonic() >= self._valid_until):
            self._check = asyncio.create_task(self._examine())
        return await asyncio.shield(self._check)

    async def close(self) -> None:
        """End a check that runs."""
        if self._check is not None:
            self._check.cancel()
            await asyncio.wait({self._check})

    async def _examine(self) -> ReadinessState:
        try:
            async with asyncio.timeout(self._settings.redis_timeout_s):
                return await self._ask_redis()
        except (RedisError, OSError, TimeoutError) as error:
            return ReadinessState(is_ready=False, sentences=(await explain_refusal(error, self._settings),))
        finally:
            self._valid_until = time.monotonic() + _VALID_S

    async def _ask_redis(self) -> ReadinessState:
        if wrong_keys := await wrong_types(self._redis, ADMISSION_KEYS):
            return ReadinessState(is_ready=False, sentences=(wrong_type_sentence(wrong_keys),))
        await probe_admission(self._redis)
        risks = await durability_risks(self._redis, durable=self._settings.durable_ack == "aof")
        is_unready = any(risk.is_misconfiguration or self._settings.require_persistence for risk in risks)
        return ReadinessState(not is_unready, tuple(risk.message for risk in risks))
