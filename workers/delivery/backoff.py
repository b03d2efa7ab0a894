"""When to try again. Rule: pure; the only place that decides about a repetition."""

import random
from collections.abc import Sequence

from spokes.core.errors import RetryLater, TransientCRMError

# Errors after which the same work may succeed. Everything else a handler raises is permanent: repeating a bug helps
# nobody, and a dead letter can be replayed once it is mended.
TRANSIENT = (TransientCRMError, RetryLater, TimeoutError, ConnectionError)


def next_delay_s(
    attempt: int, error: BaseException, *, schedule_s: Sequence[float], rng: random.Random
) -> float | None:
    """Return the seconds to wait before the next try, or None when there is to be none.

    Full jitter: any moment up to the schedule's figure, so that what failed together does not come back together.
    HubSpot's own wait wins where it is longer.

    Args:
        attempt: tries made so far, from 1.
        error: what the last one raised.
        schedule_s: the most to wait after each try; its length bounds the number of tries.
        rng: the source of chance.
    """
    if not isinstance(error, TRANSIENT) or attempt > len(schedule_s):
        return None
    wait = rng.uniform(0, schedule_s[attempt - 1])
    named = asked_wait_s(error)
    if named is None:
        return wait
    return max(wait, named + rng.uniform(0, min(1.0, named)))


def asked_wait_s(error: BaseException) -> float | None:
    """Return the wait that HubSpot or the handler named, in seconds, or None."""
    if isinstance(error, TransientCRMError):
        return error.retry_after_s
    return error.after_s if isinstance(error, RetryLater) else None
