"""Create records in a simulator on this machine, so that test events are about records that exist."""

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from spokes.core.errors import ConfigurationError

_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_TIMEOUT_S: Final = 10.0
_OK: Final = 200


async def create_simulated_records(
    api_url: str, object_type: str, properties: Mapping[str, str], count: int
) -> list[int]:
    """Create `count` records as a user does and return their ids; none if no simulator answers at `api_url`.

    Raises:
        ConfigurationError: the simulator refuses them, as HubSpot would.
    """
    if urlsplit(api_url).hostname not in _LOOPBACK:
        return []
    edit = {"edit": "create", "type": object_type, "properties": dict(properties)}
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(f"{api_url}/_sim/edits", json=[edit] * count) as response,
        ):
            answer = await response.json(content_type=None)
            is_simulator = response.status == _OK and isinstance(answer, list)
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return []
    if is_simulator:
        return [int(record["id"]) for record in answer]
    message = answer.get("message") if isinstance(answer, dict) else None
    raise ConfigurationError([f"The simulator does not create such a record: {message or response.status}"])
