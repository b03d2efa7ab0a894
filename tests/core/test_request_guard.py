"""spokes.core.request_guard: the client address, HTTPS, and the allowed networks."""

from collections.abc import Mapping
from ipaddress import ip_network

import pytest
from multidict import CIMultiDict

from spokes.core.errors import RejectedRequest
from spokes.core.refusals import Refusal
from spokes.core.request_guard import check_sender, client_network


def sender(
    headers: Mapping[str, str], *, proxies: int = 0, networks: tuple[str, ...] = (), peer: str = "10.0.0.9"
) -> str:
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


def lines(*values: str, proto: tuple[str, ...] = ("https",)) -> CIMultiDict[str]:
    """Return headers with one line per value."""
    return CIMultiDict(
        [*(("x-forwarded-for", value) for value in values), *(("x-forwarded-proto", value) for value in proto)]
    )


@pytest.mark.parametrize(
    ("headers", "proxies", "address"),
    [
        (lines("6.6.6.6", "1.2.3.4"), 1, "1.2.3.4"),
        (lines("6.6.6.6", "7.7.7.7, 1.2.3.4"), 1, "1.2.3.4"),
        (lines("6.6.6.6", "1.2.3.4", "10.0.0.1"), 2, "1.2.3.4"),
        (lines("6.6.6.6, 1.2.3.4", "10.0.0.1"), 2, "1.2.3.4"),
        (lines("1.2.3.4:5678"), 1, "1.2.3.4"),
        (lines("[2001:db8::1]:5678"), 1, "2001:db8::1"),
        (lines("::ffff:1.2.3.4"), 1, "1.2.3.4"),
        (lines(), 1, "10.0.0.9"),
    ],
)
def test_lines_of_a_forwarded_header_are_one_list_counted_from_the_right(
    headers: CIMultiDict[str], proxies: int, address: str
) -> None:
    assert sender(headers, proxies=proxies) == address


@pytest.mark.parametrize("value", ["", "unknown", "1.2.3", "1.2.3.4, ", "999.1.1.1", "x" * 9_000, "1.2.3.4 5.6.7.8"])
def test_forwarded_entry_that_is_no_address_is_refused(value: str) -> None:
    with pytest.raises(RejectedRequest) as refused:
        sender(lines("1.2.3.4", value), proxies=1)
    assert refused.value.reason is Refusal.ADDRESS_NOT_ALLOWED


@pytest.mark.parametrize(
    ("proto", "proxies"), [(("https", "http"), 1), (("https, http",), 1), (("http", "https"), 2), ((), 1), (("",), 1)]
)
def test_https_of_the_sender_itself_does_not_count(proto: tuple[str, ...], proxies: int) -> None:
    with pytest.raises(RejectedRequest) as refused:
        sender(lines("1.2.3.4", "1.2.3.4", proto=proto), proxies=proxies)
    assert refused.value.reason is Refusal.NOT_HTTPS


def test_addresses_of_one_ipv6_subscriber_count_as_one_client() -> None:
    assert client_network("2001:db8:1:2::1") == client_network("2001:db8:1:2:ffff::9") == "2001:db8:1:2::/64"
    assert client_network("2001:db8:1:3::1") != client_network("2001:db8:1:2::1")
    assert (client_network("::ffff:1.2.3.4"), client_network("1.2.3.4"), client_network("")) == ("1.2.3.4",) * 2 + ("",)
