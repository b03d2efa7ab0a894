"""Rate limits per actor or address, counted in Redis.

Callers count before they act. Otherwise parallel attempts could exceed the limit.
"""

import hashlib
import time
from dataclasses import dataclass

from redis.asyncio import Redis

from spokes.core.errors import HttpProblem
from spokes.core.redis.key_names import console_keys


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most `max_count` in each window of `window_s` seconds; `name` is part of the Redis key."""

    name: str
    max_count: int
    window_s: int
    message: str

    async def consume(self, redis: Redis, subject: str) -> None:
        """Count one request of `subject`.

        Raises:
            HttpProblem: 429, over the limit; `retry_after_s` is the time until the window ends.
            RedisError, OSError: Redis does not answer.
        """
        now = int(time.time())
        window = now // self.window_s
        # Hashed: an identity provider chooses actors' names freely, and addresses are not stored in clear.
        key = console_keys.console_rate_limit(self.name, hashlib.sha256(subject.encode()).hexdigest()[:32], window)
        async with redis.pipeline(transaction=True) as pipeline:
            pipeline.incr(key)
            pipeline.expire(key, self.window_s)
            count, _ = await pipeline.execute()
        if count > self.max_count:
            raise HttpProblem(429, "too_many_requests", self.message, retry_after_s=(window + 1) * self.window_s - now)
