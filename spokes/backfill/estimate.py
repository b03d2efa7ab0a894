"""How many calls a backfill takes, and how long, before it starts. Pure."""

import math
from dataclasses import dataclass
from typing import Final

from spokes.backfill.crm_reader import HISTORY_BATCH
from spokes.backfill.plan import BackfillPlan
from spokes.backfill.window_walk import PAGE_SIZE, RESULT_CAP

_WINDOW_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """The calls of one backfill without those of the recycle bin, whose size HubSpot does not say; seconds at least."""

    records: int
    searches: int
    reads: int
    seconds: float


def estimate(plan: BackfillPlan, records: int, *, search_limit: float, call_limit: float) -> Estimate:
    """Return the estimate for `records` changed records.

    Args:
        plan: of the backfill.
        records: as HubSpot counts them.
        search_limit: searches per second.
        call_limit: other calls per ten seconds.
    """
    pages = math.ceil(records / PAGE_SIZE)
    searches = pages + 2 * math.ceil(records / RESULT_CAP) + 2 if plan.reads_records else 0
    reads = math.ceil(records / HISTORY_BATCH) if plan.properties else 0
    return Estimate(records, searches, reads, max(searches / search_limit, reads / call_limit * _WINDOW_S))
