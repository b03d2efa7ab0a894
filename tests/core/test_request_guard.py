"""spokes.core.request_guard: who may send requests."""

from ipaddress import ip_network

import pytest

from spokes.core.errors import RejectedRequest
from spokes.core.refusals import Refusal
from spokes.core.request_guard import check_sender


def knock(headers: dict[str, str], *, proxies: int = 0, networks: tuple[str, ...] = (), peer: str = "10.0.0.9") -> str:
    return check_sender(headers, peer, proxies=proxies, networks=[ip_network(text) for text in networks])


def test_without_a_proxy_forwarded_headers_are_not_believed() -> None:
    assert knock({"X-Forwarded-For": "1.2.3.4", "X-Forwarded-Proto": "http"}) == "10.0.0.9"


def test_behind_a_proxy_the_right_most_hop_counts() -> None:
    headers = {"X-Forwarded-For": "6.6.6.6, 1.2.3.4", "X-Forwarded-Proto": "https"}
    assert knock(headers, proxies=1) == "1.2.3.4"


def test_plain_http_is_refused_behind_a_proxy() -> None:
    with pytest.raises(RejectedRequest) as refused:
        knock({"X-Forwarded-For": "1.2.3.4", "X-Forwarded-Proto": "http"}, proxies=1)
    assert refused.value.reason is Refusal.NOT_HTTPS


@pytest.mark.parametrize(
    ("peer", "may"), [("10.0.0.9", True), ("::ffff:10.0.0.9", True), ("11.0.0.1", False), ("", False)]
)
def test_allow_list_of_addresses(peer: str, may: bool) -> None:
    if may:
        assert knock({}, networks=("10.0.0.0/8", "2001:db8::/32"), peer=peer) == peer
    else:
        with pytest.raises(RejectedRequest):
            knock({}, networks=("10.0.0.0/8", "2001:db8::/32"), peer=peer)
