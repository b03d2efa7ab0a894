"""HTTPS behind a proxy, the IP allow-list, and the client's address as our own proxies saw it."""

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from spokes.core.errors import RejectedRequest
from spokes.core.refusals import Refusal


def check_sender(
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
    sender = client_address(headers, peer, proxies)
    if proxies and headers.get("X-Forwarded-Proto", "").rpartition(",")[2].strip().lower() != "https":
        raise RejectedRequest(Refusal.NOT_HTTPS)
    if networks and not _is_in_networks(sender, networks):
        raise RejectedRequest(Refusal.ADDRESS_NOT_ALLOWED)
    return sender


def client_address(headers: Mapping[str, str], peer: str | None, proxies: int) -> str:
    """Return the right-most hop that our own proxies saw: what stands further left, anyone may have written."""
    hops = [hop.strip() for hop in headers.get("X-Forwarded-For", "").split(",")] if proxies else []
    return hops[-proxies] if 0 < proxies <= len(hops) and hops[-proxies] else (peer or "")


def _is_in_networks(address: str, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    try:
        found: IPv4Address | IPv6Address = ip_address(address)
    except ValueError:
        return False
    if isinstance(found, IPv6Address) and found.ipv4_mapped:
        found = found.ipv4_mapped
    return any(found.version == network.version and found in network for network in networks)
