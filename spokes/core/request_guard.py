"""Check that a request came over HTTPS and from an allowed address; find the client address behind our proxies."""

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
    """Return the client address of a request, if the request is allowed.

    Args:
        headers: of the request.
        peer: the address of the connection's other end.
        proxies: the number of our own proxies in front of the process; 0 for none.
        networks: the allowed networks; empty allows all.

    Raises:
        RejectedRequest: the request came to our proxy over plain HTTP, or from a network that is not allowed.
    """
    sender = client_address(headers, peer, proxies)
    if proxies and headers.get("X-Forwarded-Proto", "").rpartition(",")[2].strip().lower() != "https":
        raise RejectedRequest(Refusal.NOT_HTTPS)
    if networks and not _is_in_networks(sender, networks):
        raise RejectedRequest(Refusal.ADDRESS_NOT_ALLOWED)
    return sender


def client_address(headers: Mapping[str, str], peer: str | None, proxies: int) -> str:
    """Return the address our outermost proxy saw. Entries further left in X-Forwarded-For can be forged."""
    hops = [hop.strip() for hop in headers.get("X-Forwarded-For", "").split(",")] if proxies else []
    return hops[-proxies] if 0 < proxies <= len(hops) and hops[-proxies] else (peer or "")


def _is_in_networks(address: str, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    try:
        parsed: IPv4Address | IPv6Address = ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped:
        parsed = parsed.ipv4_mapped
    return any(parsed.version == network.version and parsed in network for network in networks)
