"""A handler that calls a system of one's own, whose URL is ERP_URL, at most ERP_RATE times, and names its process."""

import asyncio
import os

from spokes import Event, Host, Router, Tools, uses

ROUTER = Router()
ERP = os.environ["ERP_URL"]
PROCESS = {"X-Process": str(os.getpid())}


@ROUTER.register("contact.propertyChange", property="ordered")
@uses(calls=(Host(ERP, rate=os.environ.get("ERP_RATE")),), retries=(1.5,) * 40)
async def order(event: Event, tools: Tools) -> None:
    """Order in the ERP."""
    await asyncio.sleep(0.1)  # so that the other worker has its share
    await tools.http.post(f"{ERP}/{event.property_value}", name="order", headers=PROCESS)
