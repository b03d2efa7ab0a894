"""How often somebody may do something, counted in Redis. Rule: counted before it is tried, so guesses do not race."""

import hashlib
import time
from dataclasses import dataclass

from redis.asyncio import Redis

from spokes.core.errors import HttpProblem


@dataclass(frozen=True, slots=True)
class RateLimit:
    """`most` in every `window_s` seconds; `name` stands in the key, `sentence` is what one too many reads."""

    name: str
    max_count: int
    window_s: int
    message: str

    async def consume(self, redis: Redis, subject: str) -> None:
        """Count one of `who`.

        Raises:
            Problem: 429, it is one too many; `retry_after_s` says when the window ends.
            RedisError, OSError: Redis does not answer.
        """
        now = int(time.time())
        window = now // self.window_s
        # The name of an actor may be anything an identity provider writes, and addresses are not kept in clear.
        key = f"spokes:console:limit:{self.name}:{hashlib.sha256(subject.encode()).hexdigest()[:32]}:{window}"
        async with redis.pipeline(transaction=True) as pipeline:
            pipeline.incr(key)
            pipeline.expire(key, self.window_s)
            count, _ = await pipeline.execute()
        if count > self.max_count:
            raise HttpProblem(429, "too_many_requests", self.message, retry_after_s=(window + 1) * self.window_s - now)
