"""spokes.core.request_guard: the client address, HTTPS, and the allowed networks."""

from ipaddress import ip_network

import pytest

from spokes.core.errors import RejectedRequest
from spokes.core.refusals import Refusal
from spokes.core.request_guard import check_sender


def sender(headers: dict[str, str], *, proxies: int = 0, networks: tuple[str, ...] = (), peer: str = "10.0.0.9") -> str:
    return check_sender(headers, peer, proxies=proxies, networks=[ip_network(text) for text in networks])


def test_forwarded_headers_are_ignored_without_a_proxy() -> None:
    assert sender({"X-Forwarded-For": "1.2.3.4", "X-Forwarded-Proto": "http"}) == "10.0.0.9"


def test_right_most_hop_is_the_client_behind_one_proxy() -> None:
    headers = {"X-Forwarded-For": "6.6.6.6, 1.2.3.4", "X-Forwarded-Proto": "https"}
    assert sender(headers, proxies=1) == "1.2.3.4"


def test_plain_http_is_refused_behind_a_proxy() -> None:
    with pytest.raises(RejectedRequest) as refused:
        sender({"X-Forwarded-For": "1.2.3.4", "X-Forwarded-Proto": "http"}, proxies=1)
    assert refused.value.reason is Refusal.NOT_HTTPS


@pytest.mark.parametrize(
    ("peer", "is_allowed"), [("10.0.0.9", True), ("::ffff:10.0.0.9", True), ("11.0.0.1", False), ("", False)]
)
def test_only_allowed_networks_may_send(peer: str, is_allowed: bool) -> None:
    if is_allowed:
        assert sender({}, networks=("10.0.0.0/8", "2001:db8::/32"), peer=peer) == peer
    else:
        with pytest.raises(RejectedRequest):
            sender({}, networks=("10.0.0.0/8", "2001:db8::/32"), peer=peer)
