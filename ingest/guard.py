"""Who may knock: https, addresses, and how often an address may fail. Rule: verified traffic is never slowed.

Forwarded headers are believed only behind a declared proxy, and only what that proxy itself wrote.
"""

import time
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

from core.errors import RejectedRequest
from core.refusals import Refusal

_WINDOW_S: Final = 60
_MOST_ADDRESSES: Final = 10_000  # counted at a time; beyond it, a flood from many addresses shares one count
_OTHERS: Final = "others"


def admit(
    headers: Mapping[str, str],
    peer: str | None,
    *,
    proxies: int,
    networks: Sequence[IPv4Network | IPv6Network],
) -> str:
    """Return the address that a request came from.

    Args:
        headers: the request's.
        peer: the address of the connection's other end.
        proxies: how many proxies of ours stand in front; 0 for none.
        networks: those that may knock; empty for all.

    Raises:
        RejectedRequest: it came to a proxy of ours over plain http, or from elsewhere.
    """
    sender = address(headers, peer, proxies)
    if proxies and headers.get("X-Forwarded-Proto", "").rpartition(",")[2].strip().lower() != "https":
        raise RejectedRequest(Refusal.NOT_HTTPS)
    if networks and not _within(sender, networks):
        raise RejectedRequest(Refusal.ADDRESS_NOT_ALLOWED)
    return sender


def address(headers: Mapping[str, str], peer: str | None, proxies: int) -> str:
    """Return the right-most hop that our own proxies saw: what stands further left, anyone may have written."""
    hops = [hop.strip() for hop in headers.get("X-Forwarded-For", "").split(",")] if proxies else []
    return hops[-proxies] if 0 < proxies <= len(hops) and hops[-proxies] else (peer or "")


def _within(address: str, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    try:
        found: IPv4Address | IPv6Address = ip_address(address)
    except ValueError:
        return False
    if isinstance(found, IPv6Address) and found.ipv4_mapped:
        found = found.ipv4_mapped
    return any(found.version == network.version and found in network for network in networks)


class FailureLimit:
    """Failed signatures by address, over all web processes.

    Each process counts for itself and shares its counts every second, so a flood of forged requests costs Redis one
    call a second and not one a request.
    """

    def __init__(self, limit: int) -> None:
        """Allow `limit` failures per address and minute."""
        self._limit = limit
        self._window = 0
        self._ours: dict[str, int] = {}  # failures seen here and not shared yet
        self._known: dict[str, int] = {}  # failures of all processes, as of the last sharing

    def failed(self, address: str, now_s: float | None = None) -> bool:
        """Count a failed signature; return whether the address has failed too often in this minute."""
        window = int(time.time() if now_s is None else now_s) // _WINDOW_S
        if window != self._window:
            self._window, self._ours, self._known = window, {}, {}
        name = address if address in self._ours or len(self._ours) < _MOST_ADDRESSES else _OTHERS
        self._ours[name] = self._ours.get(name, 0) + 1
        return self._ours[name] + self._known.get(name, 0) > self._limit

    def take(self) -> dict[str, int]:
        """Return the failures that are to be shared, and count them as shared."""
        ours, self._ours = self._ours, {}
        return ours

    def learn(self, totals: Mapping[str, int]) -> None:
        """Take note of what all processes have counted."""
        self._known.update(totals)

    @property
    def window(self) -> int:
        """The minute that is being counted."""
        return self._window
