"""Breakages of what a deployment talks to: `spokes doctor` says what answers in its place, and what to do."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.console.doctor.breakages import (
    CLOSED,
    FAULT,
    WARNING,
    WEBHOOK_SECRET,
    Breakage,
    Deployment,
    assert_is_named,
    doctor,
    response,
    sentences,
    settings,
)

HTTP = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def webhook_status(status: int) -> Breakage:
    async def change(deployment: Deployment) -> None:
        deployment.webhook_status = status
        url = f"{deployment.environ['PUBLIC_URL']}/hook"
        deployment.environ |= {"ALERT_WEBHOOK_SECRET": WEBHOOK_SECRET, "ALERT_WEBHOOK_URL": url}

    return change


BREAKAGES: dict[str, tuple[Breakage, int, str]] = {
    "receiver that is another program": (response(200), FAULT, "Another program answers there"),
    "receiver that redirects": (response(308), FAULT, "HubSpot follows no redirect"),
    "receiver that refuses the method": (response(405), FAULT, "Another program or a proxy refuses"),
    "receiver behind a proxy with a size limit": (response(413), FAULT, "MAX_BODY_BYTES"),
    "receiver that saw wrong signatures": (response(429), FAULT, "too many wrong signatures"),
    "receiver behind a proxy without it": (response(504), FAULT, "The proxy does not reach the web process"),
    "alert webhook of nobody": (webhook_status(404), WARNING, "answers 404: alerts may reach nobody"),
    "alert webhook that wants a login": (webhook_status(401), WARNING, "answers 401: alerts may reach nobody"),
    "alert webhook that fails": (webhook_status(502), WARNING, "answers 502: alerts may reach nobody"),
    "checkpoints to no folder": (settings(CHECKPOINT_TO="/proc/none/checkpoints"), FAULT, "CHECKPOINT_TO"),
    "checkpoints to nobody": (settings(CHECKPOINT_TO=f"http://{CLOSED}/c"), FAULT, "CHECKPOINT_TO cannot be reached"),
    "Sentry away": (settings(SENTRY_DSN=f"http://key@{CLOSED}/2"), WARNING, "errors are in the log only"),
    "unknown host of the audit store": (
        settings(DATABASE_URL="postgres://u:p@no-such-host.invalid/d"),
        WARNING,
        "the host in DATABASE_URL is unknown",
    ),
}


@pytest.mark.parametrize("name", BREAKAGES)
async def test_breakage_outside_is_named_with_what_to_do(deployment: Deployment, name: str) -> None:
    await assert_is_named(deployment, BREAKAGES[name])


@pytest.mark.parametrize("status", [200, 204, 400, 405, 501])
async def test_webhook_that_only_refuses_the_method_is_no_problem(deployment: Deployment, status: int) -> None:
    await webhook_status(status)(deployment)
    done = await doctor(deployment)
    assert (done.returncode, done.stdout) == (0, "")


async def test_checkpoint_file_that_can_be_written_is_no_problem(deployment: Deployment) -> None:
    deployment.environ["CHECKPOINT_TO"] = f"{deployment.environ['DATA_DIR']}-checkpoints"
    done = await doctor(deployment)
    assert (done.returncode, done.stdout) == (0, "")


@asynccontextmanager
async def other_program() -> AsyncIterator[int]:
    """Run a server that answers everything in HTTP; yield its port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(HTTP)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize(("scheme", "words"), [("redis", "is no Redis"), ("rediss", "TLS fails")])
async def test_other_program_in_the_place_of_redis_is_named(deployment: Deployment, scheme: str, words: str) -> None:
    async with other_program() as port:
        deployment.environ["REDIS_URL"] = f"{scheme}://127.0.0.1:{port}"
        done = await doctor(deployment)
    assert (done.returncode, words in sentences(done)) == (FAULT, True), sentences(done)
