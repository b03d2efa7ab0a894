"""Every command of docs/troubleshooting.md shows what the page says, in a deployment that has all its symptoms."""

import contextlib
import re
import shlex
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import orjson
import pytest

from tests.support.deployment import ROOT
from tests.support.processes.installed_wheel import Installation, wait_for

pytestmark = pytest.mark.slow  # a build, an environment, a whole deployment
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
COMMANDS = re.findall(r"^```console\n\$ spokes ([^\n]*)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
BROKEN_HANDLER = '''"""A handler that writes a property that the account does not have."""

from spokes import Event, Router, Tools, uses

router = Router()


@router.register("company.creation")
@uses(may=("companies.update",))
async def colour(event: Event, tools: Tools) -> None:
    """Write a property."""
    await tools.crm.companies.update(event.object_id, {"favourite_colour": "red"})
'''
ROUTERS = """from my_crm.handlers import companies, contacts
from spokes import Router

ROUTER = Router(contacts.router, companies.router)
"""


class Deployment(NamedTuple):
    """A project that runs with `spokes up`."""

    installed: Installation
    folder: Path

    def spokes(self, *arguments: str) -> str:
        """Return what a command prints."""
        done = self.installed.run(self.folder, *arguments, COLUMNS="300")
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def deployment(installed: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A dead letter, an echo, a refused request, and then a HubSpot that answers 429."""
    parent = tmp_path_factory.mktemp("troubleshooting")
    installed.run(parent, "new", "my-crm", "--wheel", str(installed.wheel))
    folder = parent / "my-crm"
    (folder / "my_crm/handlers/companies.py").write_text(BROKEN_HANDLER)
    (folder / "my_crm/handlers/__init__.py").write_text(ROUTERS)
    with installed.start(folder, "up", "--traffic", "0") as up:
        hubspot = wait_for(up, "HubSpot simulator on").partition("http://")[2].split()[0]
        web = wait_for(up, "Ready: ").partition("http://")[2].split()[0]
        wait_for(up, "worker_ready")
        running = Deployment(installed, folder)
        running.spokes("send", "company.creation", "--wait", "30")
        running.spokes("send", "contact.propertyChange", "--property", "phone=+1 (202) 555-0143", "--wait", "30")
        with contextlib.suppress(urllib.error.HTTPError):
            urllib.request.urlopen(f"http://{web}", b"[]", timeout=60)
        wait_until(lambda: "own_write" in running.spokes("audit", "query", "--outcome", "echo"))
        wait_until(lambda: "signature" in running.spokes("audit", "query", "--action", "requests.refused", "--json"))
        fault = orjson.dumps({"path": "/crm/*", "status": 429})
        urllib.request.urlopen(f"http://{hubspot}/_sim/faults", fault, timeout=60).close()
        running.spokes("send", "contact.propertyChange", "--property", "phone=+1 (202) 555-0144")
        wait_until(lambda: "retried" in running.spokes("audit", "query", "--reason", "rate_limited"))
        yield running


def wait_until(is_true: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not is_true():
        assert time.monotonic() < end
        time.sleep(0.5)


@pytest.mark.parametrize(("command", "printed"), COMMANDS, ids=[command for command, _ in COMMANDS])
def test_command_shows_what_the_page_says(deployment: Deployment, command: str, printed: str) -> None:
    arguments = shlex.split(command)
    if "KEY" in arguments:
        letter = orjson.loads(deployment.spokes("dead", "list", "--json").splitlines()[0])
        arguments = [letter["event_key"] if word == "KEY" else word for word in arguments]
    output = " ".join(deployment.spokes(*arguments).split())
    for line in printed.splitlines():
        pattern = ".*?".join(re.escape(part.strip()) for part in line.split("…"))
        assert re.search(pattern, output), f"{line!r} is not in: {output}"


def test_page_has_a_section_for_each_symptom() -> None:
    sections = re.findall("^## (.*)", PAGE, re.MULTILINE)
    assert sections == ["My handler never runs", "My event is dead", "My write came back", "429", "Nothing arrives"]
    assert all("```console" in part for part in re.split("^## .*", PAGE, flags=re.MULTILINE)[1:])
