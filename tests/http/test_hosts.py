"""spokes.http.hosts: which hosts a handler may declare, and what holds for a host that several declare."""

from typing import Any

import pytest

from spokes.core.errors import ConfigurationError
from spokes.core.events import Event
from spokes.http.hosts import Host, HostLimits, is_private, merge_hosts, read_declared_hosts
from spokes.routing import Router, load_router, uses
from spokes.run_limits import Rate
from spokes.tools import Tools


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://erp.example.com", "https://erp.example.com"),
        ("https://ERP.Example.com:443/", "https://erp.example.com"),
        ("http://erp.example.com:80", "http://erp.example.com"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("http://localhost:9000", "http://localhost:9000"),
        ("https://b\u00fccher.example", "https://xn--bcher-kva.example"),
        ("https://erp.example.com.", "https://erp.example.com"),
        ("https://erp.example.com.:8443/", "https://erp.example.com:8443"),
        ("http://[0:0:0:0:0:0:0:1]", "http://[::1]"),
    ],
)
def test_host_is_declared_by_its_origin(text: str, origin: str) -> None:
    hosts, faults = read_declared_hosts((text,))
    assert (list(hosts), faults) == ([origin], ())


@pytest.mark.parametrize(
    "value",
    [
        "https://erp.example.com",
        None,
        (7,),
        ("erp.example.com",),
        ("//erp.example.com",),
        ("ftp://erp.example.com",),
        ("https://",),
        ("",),
        ("https://*.example.com",),
        ("https://a b",),
        ("https://erp.example.com:99999",),
        ("https://erp.example.com:0",),
        ("https://256.1.1.1",),
        ("https://1.2.3.4.5",),
        ("https://...",),
        ("https://::1",),
        ("https://erp..example.com",),
        ("https://user:password@erp.example.com",),
        ("https://erp.example.com/api",),
        ("https://erp.example.com?a=1",),
        (Host("https://erp.example.com", rate="10"),),
        (Host("https://erp.example.com", timeout_s=0),),
        (Host("https://erp.example.com", connections=0),),
        (Host("https://erp.example.com", connections=True),),
        (Host("https://erp.example.com"), Host("https://erp.example.com", rate="1/s")),
    ],
)
def test_anything_else_is_refused_with_its_place_and_a_sentence(value: Any) -> None:
    with pytest.raises(
        ConfigurationError, match=r"test_hosts\.py:\d+: `(calls|rate|timeout_s|connections)` "
    ) as caught:
        uses(calls=value)
    assert "password@" not in str(caught.value)


def test_wrong_limit_of_a_host_names_the_host() -> None:
    _, faults = read_declared_hosts((Host("https://ERP.example.com", rate="10/m", timeout_s=-1),))
    assert [fault.partition(" takes")[0] for fault in faults] == [
        "`timeout_s` of https://erp.example.com",
        "`rate` of https://erp.example.com",
    ]


def test_missing_scheme_is_suggested() -> None:
    _, (fault,) = read_declared_hosts(("erp.example.com",))
    assert "'https://erp.example.com'" in fault


def test_limits_that_one_handler_declares_hold_for_all() -> None:
    url = "https://erp.example.com"
    declarations = [("a.py:1", {url: Host(url)}), ("b.py:2", {url: Host(url, rate="10/s")})]
    for order in (declarations, declarations[::-1]):
        merged, faults = merge_hosts(order)
        assert (merged, faults) == ({url: HostLimits(Rate(10, 1000))}, [])


@pytest.mark.parametrize("second", [{"rate": "5/s"}, {"connections": 2}, {"timeout_s": 3.0}])
def test_two_different_limits_of_a_host_are_refused_with_both_places(second: dict[str, Any]) -> None:
    url = "https://erp.example.com"
    first = Host(url, rate="10/s", connections=1, timeout_s=1.0)
    _, (fault,) = merge_hosts([("a.py:1", {url: first}), ("b.py:2", {url: Host(url, **second)})])
    assert fault.startswith("b.py:2: ")
    assert "a.py:1" in fault


def test_package_with_contradicting_hosts_does_not_start(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "contradicting_hosts.py").write_text(
        """
from spokes import Host, Router, uses
ROUTER = Router()
for name, rate in (("one", "1/s"), ("two", "2/s")):
    async def handler(event, tools): ...
    handler.__name__ = name
    ROUTER.register("contact.creation")(uses(calls=(Host("https://erp.example.com", rate=rate),))(handler))
"""
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigurationError, match="contradicts rate='1/s'"):
        load_router("contradicting_hosts")


def test_router_knows_the_hosts_of_its_handlers() -> None:
    router = Router()

    @router.register("contact.creation")
    @uses(calls=("https://erp.example.com", Host("https://shop.example.com", timeout_s=3)))
    async def call(event: Event, tools: Tools) -> None: ...

    assert {host: limits.timeout_s for host, limits in router.hosts.items()} == {
        "https://erp.example.com": 10.0,
        "https://shop.example.com": 3.0,
    }


@pytest.mark.parametrize(
    ("address", "private"),
    [
        ("127.0.0.1", True), ("10.1.2.3", True), ("169.254.169.254", True), ("::1", True), ("fe80::1%eth0", True),
        ("0.0.0.0", True), ("8.8.8.8", False), ("2001:4860:4860::8888", False),
    ],
)  # fmt: skip
def test_private_addresses_are_known(address: str, private: bool) -> None:
    assert is_private(address) is private
