"""spokes.core.process.listening_port: an address that cannot be used is one sentence."""

import socket

import pytest

from spokes.core.errors import ConfigurationError
from spokes.core.process.listening_port import check_address, check_loopback


@pytest.mark.parametrize("other", ["127.0.0.1", "0.0.0.0"])
def test_port_of_another_program_is_refused(other: str) -> None:
    with socket.socket() as server:
        server.bind((other, 0))
        server.listen()
        with pytest.raises(ConfigurationError, match="another program listens there"):
            check_address("127.0.0.1", server.getsockname()[1])


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid", "a" * 70, "::zz"])
def test_address_of_another_machine_is_refused(host: str) -> None:
    with pytest.raises(ConfigurationError, match="HOST and PORT"):
        check_address(host, 0)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])
def test_free_port_is_accepted(host: str) -> None:
    check_address(host, 0)


def test_programs_of_this_machine_reach_each_other() -> None:
    check_loopback()
