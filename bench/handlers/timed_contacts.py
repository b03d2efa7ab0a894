"""The default contacts handler; each start is noted in the file BENCH_STARTS as a line `object id, seconds`."""

import os
import time
from pathlib import Path

from handlers.contacts import keep_reachable
from spokes import Event, Router, Tools, uses

ROUTER = Router()
STARTS = Path(os.environ["BENCH_STARTS"]).open("a", buffering=1)  # noqa: SIM115 - open as long as the process


@ROUTER.register("contact.propertyChange", property="phone")
@uses(reads={"contacts": ("phone", "email", "hs_country_region_code")}, may=("contacts.update",))
async def timed_keep_reachable(event: Event, tools: Tools) -> None:
    """Note the time, then run the handler."""
    STARTS.write(f"{event.object_id} {time.time()}\n")
    await keep_reachable(event, tools)
