"""`python -m spokes.simulator`: run a simulator until interrupted.

`python -m spokes.simulator demo` calls spokes.simulator.demo, which also starts Valkey, a web process and workers.
"""

from spokes.core.process.signals import exit_on_signals

if __name__ == "__main__":
    exit_on_signals()  # the imports below take a second

import argparse
import asyncio
import importlib
import math
import os
import signal
import sys
from collections.abc import Sequence
from random import Random
from typing import Final, Literal, overload

from spokes.core.errors import ConfigurationError
from spokes.core.process.env_file import read_env_file
from spokes.core.process.listening_port import check_address
from spokes.core.process.private_files import keep_files_private
from spokes.simulator.app import Simulator
from spokes.simulator.config import (
    OAUTH_LIMITS,
    Latency,
    Limits,
    OAuthConfig,
    PortalConfig,
    SimulatorConfig,
    Target,
)
from spokes.simulator.default_subscriptions import chosen_subscriptions
from spokes.simulator.demo.traffic import Traffic
from spokes.simulator.own_properties import UnknownProperties, own_definitions, validated
from spokes.simulator.webhooks.delivery_log import DeliveryState
from spokes.simulator.webhooks.http_sender import wait_until_listening

_EXAMPLES: Final = """\
examples:
  python -m spokes.simulator
      an empty CRM on port 8900; point HUBSPOT_API_URL at http://127.0.0.1:8900
  python -m spokes.simulator --target http://127.0.0.1:8080/webhooks/hubspot --traffic 5
      simulated users make edits: about five events a second are sent to the receiver
  python -m spokes.simulator --target http://127.0.0.1:8080/webhooks/hubspot \\
                      --public-url https://hooks.example.com/webhooks/hubspot
      as behind a proxy: requests are signed for --public-url and sent to --target
  python -m spokes.simulator --speed 3600
      an hour between HubSpot's retries takes one second
  curl http://127.0.0.1:8900/_sim/
      list the control endpoints of a running simulator
  python -m spokes.simulator demo
      run Valkey, web and workers on a simulator and check the result
"""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m spokes.simulator",
        description="Simulate HubSpot: its CRM API with its limits, and its signed webhook deliveries.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_account(parser)
    _add_installs(parser)
    _add_contents(parser)
    _add_deliveries(parser)
    _add_behaviour(parser)
    return parser


def _add_account(parser: argparse.ArgumentParser) -> None:
    """Add the address and the credentials of the simulated account."""
    portal = PortalConfig()
    config = SimulatorConfig()
    parser.add_argument("--host", default=config.host, help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port", type=_port, default=8900, help="port to listen on; 0 picks one (default: %(default)s)"
    )
    parser.add_argument(
        "--token",
        default=os.environ.get("SIMULATOR_TOKEN") or portal.token,
        help=f"access token that the CRM API accepts (default: SIMULATOR_TOKEN, or {portal.token})",
    )
    parser.add_argument(
        "--client-secret",
        default=os.environ.get("SIMULATOR_CLIENT_SECRET") or config.client_secret,
        help=f"secret that signs deliveries (default: SIMULATOR_CLIENT_SECRET, or {config.client_secret})",
    )
    parser.add_argument(
        "--portal-id",
        type=_positive_whole,
        default=portal.portal_id,
        help="id of the simulated account (default: %(default)s)",
    )


def _add_installs(parser: argparse.ArgumentParser) -> None:
    """Add what concerns accounts that install the app by OAuth."""
    config = SimulatorConfig()
    parser.add_argument(
        "--client-id",
        default=config.oauth.client_id,
        help="client id of the app that accounts install by OAuth (default: %(default)s)",
    )
    parser.add_argument(
        "--portals",
        type=_amount_of_portals,
        default=0,
        metavar="N",
        help="further accounts, with the ids after --portal-id, which can install the app (default: %(default)s)",
    )
    parser.add_argument(
        "--rotate-refresh-tokens",
        action="store_true",
        help="each refresh returns another refresh token; HubSpot's stays the same",
    )


def _add_contents(parser: argparse.ArgumentParser) -> None:
    """Add what the account has: subscriptions, scopes, properties of its own."""
    parser.add_argument(
        "--events",
        metavar="A,B",
        default="",
        help="send only events that these match, such as contact.creation,deal.propertyChange:amount (default: all)",
    )
    parser.add_argument("--scopes", metavar="A,B", help="scopes of the token, separated by commas (default: all)")
    parser.add_argument(
        "--property",
        type=_own_property,
        action="append",
        default=[],
        metavar="TYPE.NAME[:KIND]",
        help="a property that the account has added, such as contacts.favourite_colour or deals.renewal:date",
    )


def _add_deliveries(parser: argparse.ArgumentParser) -> None:
    """Add the receiver of deliveries."""
    parser.add_argument("--target", metavar="URL", help="address to send deliveries to; without it none are sent")
    parser.add_argument(
        "--public-url",
        metavar="URL",
        help="URL that HubSpot would call, for which requests are signed (default: --target)",
    )


def _add_behaviour(parser: argparse.ArgumentParser) -> None:
    """Add limits, latency, traffic and chance."""
    portal = PortalConfig()
    config = SimulatorConfig()
    parser.add_argument(
        "--limit",
        type=_positive_whole,
        default=portal.limits.ten_secondly,
        help="CRM calls allowed in 10 s (default: %(default)s)",
    )
    parser.add_argument(
        "--latency-ms", type=_amount, default=0.0, help="median latency of a CRM response (default: %(default)s)"
    )
    parser.add_argument(
        "--traffic",
        type=_amount,
        default=0.0,
        metavar="N",
        help="events a second from simulated user edits, which begin when --target accepts connections",
    )
    parser.add_argument(
        "--speed", type=_factor, default=1.0, help="factor by which HubSpot's retry delays are shortened (default: 1)"
    )
    parser.add_argument(
        "--seed", type=int, default=config.seed, help="seed of all random choices (default: %(default)s)"
    )


def _own_property(text: str) -> str:
    try:
        return validated(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _port(text: str) -> int:
    return _number(text, "a port from 0 to 65535", 0, 65535, whole=True)


def _positive_whole(text: str) -> int:
    return _number(text, "a whole number of at least 1", 1, 2**53, whole=True)


def _amount_of_portals(text: str) -> int:
    return _number(text, "a whole number from 0 to 100000", 0, 100_000, whole=True)


def _amount(text: str) -> float:
    return _number(text, "a number from 0 to 1000000", 0, 1e6)


def _factor(text: str) -> float:
    return _number(text, "a number from 0.001 to 1000000", 0.001, 1e6)


@overload
def _number(text: str, form: str, least: float, most: float, *, whole: Literal[True]) -> int: ...
@overload
def _number(text: str, form: str, least: float, most: float) -> float: ...
def _number(text: str, form: str, least: float, most: float, *, whole: bool = False) -> float:
    try:
        value = int(text) if whole else float(text)
    except ValueError:
        value = math.nan
    if not least <= value <= most:
        raise argparse.ArgumentTypeError(f"must be {form}")
    return value


def build_config(arguments: argparse.Namespace) -> SimulatorConfig:
    """Return the configuration that the command line describes."""
    target = None
    if arguments.target or arguments.public_url:
        public_url = arguments.public_url or arguments.target
        target = Target(public_url, arguments.target if arguments.public_url else None)
    subscriptions = chosen_subscriptions([event for event in arguments.events.split(",") if event])
    portal = PortalConfig(
        portal_id=arguments.portal_id,
        token=arguments.token,
        scopes=frozenset(arguments.scopes.split(",")) if arguments.scopes else None,
        limits=Limits(ten_secondly=arguments.limit),
        subscriptions=subscriptions,
        properties=own_definitions(arguments.property),
    )
    further = (
        PortalConfig(
            portal.portal_id + number,
            token="",
            limits=OAUTH_LIMITS,
            subscriptions=subscriptions,
            properties=portal.properties,
        )
        for number in range(1, arguments.portals + 1)
    )
    return SimulatorConfig(
        portals=(portal, *further),
        oauth=OAuthConfig(client_id=arguments.client_id, rotates_refresh_tokens=arguments.rotate_refresh_tokens),
        client_secret=arguments.client_secret,
        target=target,
        latency=Latency(arguments.latency_ms, arguments.latency_ms * 4 or None),
        seed=arguments.seed,
        speed=arguments.speed,
        host=arguments.host,
        port=arguments.port,
    )


async def serve(config: SimulatorConfig, *, events_per_s: float = 0.0) -> None:
    """Run until SIGINT or SIGTERM."""
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with Simulator(config) as sim, asyncio.TaskGroup() as tasks:
        target = "nowhere" if config.target is None else config.target.connect_url or config.target.public_url
        print(f"HubSpot simulator on {sim.url} (portal {sim.portal.config.portal_id}), delivering to {target}")  # noqa: T201 - a command line prints
        print(f"control endpoints: {sim.url}/_sim/", flush=True)  # noqa: T201 - a command line prints
        sim.portal.report_unknown_property = UnknownProperties().print_once
        traffic = Traffic(sim.portal, Random(f"{config.seed} traffic"))
        editing = tasks.create_task(_edit(sim, traffic, events_per_s)) if events_per_s else None
        await stopped.wait()
        if editing is not None:
            editing.cancel()


async def _edit(sim: Simulator, traffic: Traffic, events_per_s: float) -> None:
    """Make edits until cancelled, from when the target accepts connections: HubSpot would retry only a minute later."""
    if sim.sender.target is not None:
        await wait_until_listening(sim.sender.target)
    await traffic.run(events_per_s, lambda: _events_sent(sim), sim.clock)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    keep_files_private()
    try:
        read_env_file()
        if arguments[:1] == ["demo"]:
            # Imported only here, because the demo needs modules that the plain simulator does not.
            return int(importlib.import_module("spokes.simulator.demo").main(arguments[1:]) or 0)
        parsed = build_parser().parse_args(arguments)
        check_address(parsed.host, parsed.port, names="--host and --port")
        asyncio.run(serve(build_config(parsed), events_per_s=parsed.traffic))
    except ConfigurationError as error:
        print(error, file=sys.stderr)  # noqa: T201 - a command line prints
        return 2
    return 0


def _events_sent(sim: Simulator) -> int:
    return sum(sim.deliveries.counts[state] for state in DeliveryState)


if __name__ == "__main__":
    sys.exit(main())
