"""The runbook docs/incidents.md, with its own commands: a token that is revoked while events arrive."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest
from redis.asyncio import Redis

from spokes.audit.records import TERMINAL
from spokes.core.redis.keys import AUDIT_STREAM
from spokes.core.settings import RECEIVER_PATH, Settings
from spokes.core.telemetry.secret_ages import token_fingerprint
from spokes.queue.pauses.portal_pauses import PortalPauses
from spokes.simulator.app import Simulator
from spokes.simulator.changes import USER
from spokes.simulator.config import PortalConfig, SimulatorConfig, Subscription, Target
from spokes.simulator.demo import clean_environment, wait_until_ready
from spokes.simulator.portal import TokenState
from tests.support.command_line import spokes
from tests.support.deployment import KEY, PUBLIC_URL, ROOT, SECRET
from tests.support.free_ports import free_port

_PAGE = (ROOT / "docs/incidents.md").read_text(encoding="utf-8")
_BLOCKS = dict(re.findall(r"```sh (\S+)\n(.*?)```", _PAGE, re.DOTALL))
_COMMANDS = sorted({line for block in _BLOCKS.values() for line in block.splitlines()})
PORTAL, OLD_TOKEN, NEW_TOKEN = 50112233, "pat-na1-simulated-old", "pat-na1-simulated-new"


class Deployment:
    """Web process and worker as processes, and the commands of the page with their settings."""

    def __init__(self, environ: dict[str, str], folder: Path) -> None:
        self.environ = environ
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._folder = folder

    def start(self, module: str) -> None:
        command, env = [sys.executable, "-m", module], clean_environment(self.environ)
        self.processes[module] = subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.DEVNULL)

    async def restart(self) -> None:
        """End each process as a host does, and start it with the settings of now."""
        for module, process in self.processes.items():
            process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.wait, 90) == 0
            self.start(module)
            if module == "ingest":
                await wait_until_ready(f"http://127.0.0.1:{self.environ['PORT']}")

    async def run(self, block: str, **variables: str) -> str:
        """Run a block of the page in a shell; return what it printed."""
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        env = clean_environment({**self.environ, "PATH": path, "PORTAL": str(PORTAL), "SINCE": "1h", **variables})
        command = ["sh", "-ec", _BLOCKS[block]]
        done = await asyncio.to_thread(
            subprocess.run, command, cwd=self._folder, env=env, capture_output=True, text=True, timeout=180, check=False
        )
        assert done.returncode == 0, f"{block}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def kill(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()


@pytest.fixture
def deployment(redis: Redis, environ: dict[str, str], tmp_path: Path) -> Iterator[Deployment]:
    port = str(free_port())
    settings = {"PORT": port, "HOST": "127.0.0.1", "TRUSTED_PROXIES": "1", "HUBSPOT_ACCESS_TOKEN": OLD_TOKEN}
    started = Deployment({**environ, **settings}, tmp_path)
    yield started
    started.kill()


def simulator(port: str) -> Simulator:
    target = Target(f"{PUBLIC_URL}{RECEIVER_PATH}", f"http://127.0.0.1:{port}{RECEIVER_PATH}")
    portal = PortalConfig(PORTAL, token=OLD_TOKEN, subscriptions=(Subscription("contact.creation"),))
    return Simulator(SimulatorConfig((portal,), client_secret=SECRET, target=target, speed=20.0))


@asynccontextmanager
async def load(sim: Simulator) -> AsyncIterator[list[str]]:
    """Create contacts all the time; yields their ids."""
    ids: list[str] = []

    async def create() -> None:
        contacts = sim.crm.types.resolve("contacts")
        while True:
            ids.append(sim.crm.create(contacts, {"phone": "(415) 555-2671"}, USER).id)
            await asyncio.sleep(0.1)

    task = asyncio.create_task(create())
    try:
        yield ids
    finally:
        task.cancel()


async def final_outcomes(deployment: Deployment) -> Counter[tuple[str, str]]:
    """Return how often each contact's event ended, by contact and outcome, from the audit store."""
    result = await asyncio.to_thread(
        spokes, deployment.environ, "audit", "export", "--action", "event", "--since", "1h"
    )
    records = [orjson.loads(line) for line in result.stdout.splitlines()]
    return Counter((record["object_id"], record["outcome"]) for record in records if record["outcome"] in TERMINAL)


async def until_ended(deployment: Deployment, redis: Redis, count: int) -> Counter[tuple[str, str]]:
    deadline = time.monotonic() + 120
    while True:
        ended = await final_outcomes(deployment)
        if len(ended) >= count and not await redis.xlen(AUDIT_STREAM):
            return ended
        assert time.monotonic() < deadline, (len(ended), count)
        await asyncio.sleep(0.5)


async def until_refused(redis: Redis) -> None:
    deadline = time.monotonic() + 90
    while not await PortalPauses(redis).list():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("command", [line for line in _COMMANDS if line.startswith("spokes ")])
def test_page_names_existing_commands_and_options(command: str) -> None:
    words = command.partition(">>")[0].split()[1:]
    names = [word for word in words[:2] if re.fullmatch("[a-z]+", word)]
    shown = spokes({"AUDIT_KEY": KEY, "COLUMNS": "200"}, *names, "--help")
    options = re.findall(r"--[a-z-]+", command)
    assert (shown.returncode, [name for name in options if name not in shown.stdout]) == (0, []), shown


@pytest.mark.slow  # starts a web process, two workers and a command for each step
@pytest.mark.timeout(300)
async def test_no_event_is_lost_when_a_token_is_revoked_under_load_and_the_runbook_is_followed(
    redis: Redis, deployment: Deployment, tmp_path: Path
) -> None:
    old = token_fingerprint(Settings.from_env(deployment.environ))
    async with simulator(deployment.environ["PORT"]) as sim:
        deployment.environ["HUBSPOT_API_URL"] = sim.url
        deployment.start("ingest")
        await wait_until_ready(f"http://127.0.0.1:{deployment.environ['PORT']}")
        deployment.start("workers")
        async with load(sim) as contacts:
            assert old in await deployment.run("fingerprint")
            await until_ended(deployment, redis, 20)
            opened = re.search("Incident (\\S+) is open", await deployment.run("open"))
            assert opened
            incident = opened[1]
            sim.portal.token_state = TokenState.REVOKED
            await until_refused(redis)
            assert "not_authorized" in await deployment.run("paused")
            await deployment.run("hold")

            sim.gateway.replace_token(sim.portal, NEW_TOKEN)
            deployment.environ["HUBSPOT_ACCESS_TOKEN"] = NEW_TOKEN
            new = token_fingerprint(Settings.from_env(deployment.environ))
            await deployment.restart()
            assert new in await deployment.run("update")
            await deployment.run("resume")
            await asyncio.sleep(2)  # further events, with the new token
        await sim.sender.wait_until_drained()
        ended = await until_ended(deployment, redis, len(contacts))
        assert ended == Counter(dict.fromkeys(((id_, "processed") for id_ in contacts), 1))

        first, last = contacts[0], contacts[-1]
        reviewed = await deployment.run("review", FINGERPRINT=old)
        assert (f"contact {first}" in reviewed, f"contact {last}" in reviewed) == (True, False), reviewed
        assert "crm.write" in await deployment.run("calls", FINGERPRINT=old)
        await deployment.run("dead")
        notified = await deployment.run("notify", CONTACT=first)
        assert first in notified
        assert orjson.loads((tmp_path / "person.json").read_bytes())
        await deployment.run("cause")
        assert incident in await deployment.run("file", INCIDENT=incident)
        await deployment.run("document", INCIDENT=incident)
        assert (tmp_path / "checkpoints.txt").read_text(encoding="utf-8").strip()
