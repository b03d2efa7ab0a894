"""Breakages of what a deployment has stored: `spokes doctor` names each, and says how to go on."""

import sqlite3
from pathlib import Path

import pytest

from spokes.console.accounts.policy import Role
from spokes.console.accounts.seals import Seals
from spokes.console.accounts.users import Users
from spokes.core.redis import keys
from tests.console.doctor.breakages import (
    FAULT,
    PORTAL,
    REFUSED,
    WARNING,
    Breakage,
    Deployment,
    assert_is_named,
    doctor,
    sentences,
    settings,
    statement,
)

CONSOLE_KEY = "c0ns0le-key-of-this-deployment-7f3a"


def in_hash(key: str, field: str, value: bytes) -> Breakage:
    async def change(deployment: Deployment) -> None:
        await deployment.redis.hset(key, field, value)  # type: ignore[misc]  # redis-py types one class for sync and async

    return change


def text_at(key: str) -> Breakage:
    async def change(deployment: Deployment) -> None:
        await deployment.redis.sadd(keys.PORTALS, PORTAL)  # type: ignore[misc]  # as above
        await deployment.redis.set(key, "not ours")

    return change


async def unreadable_message(deployment: Deployment) -> None:
    await deployment.redis.rpush(keys.ALERT_OUTBOX, b"not ours")  # type: ignore[misc]  # as above


async def another_console_key(deployment: Deployment) -> None:
    await Users(deployment.redis, Seals(f"another-{CONSOLE_KEY}")).put("ada", [Role.ADMIN])
    deployment.environ["CONSOLE_KEY"] = CONSOLE_KEY


def store_file(deployment: Deployment) -> Path:
    return Path(deployment.environ["DATABASE_URL"].removeprefix("sqlite:///"))


async def other_file(deployment: Deployment) -> None:
    store_file(deployment).write_bytes(b"not a database " * 1000)


async def folder(deployment: Deployment) -> None:
    deployment.environ["DATABASE_URL"] = f"sqlite:///{store_file(deployment).parent}"


BREAKAGES: dict[str, tuple[Breakage, int, str]] = {
    "unreadable alert": (in_hash(keys.ALERTS_ACTIVE, "crash_loop", b"\xff"), WARNING, "active_alert (1)"),
    "unreadable pause": (in_hash(keys.PAUSED_PORTALS, "7", b"[1,"), WARNING, "pause (1)"),
    "unreadable alert message": (unreadable_message, WARNING, "alert_message (1)"),
    "dead letters of a portal of another type": (text_at(f"spokes:{PORTAL}:dead"), FAULT, f"spokes:{PORTAL}:dead"),
    "accounts of another CONSOLE_KEY": (another_console_key, WARNING, "sealed with another CONSOLE_KEY"),
    "table of incidents deleted": (statement("DROP TABLE incidents"), FAULT, "lacks the tables incidents"),
    "table of checkpoints deleted": (statement("DROP TABLE audit_checkpoints"), FAULT, "docs/backup.md"),
    "audit store that is another file": (other_file, WARNING, "the file is no SQLite database"),
    "audit store that is a folder": (folder, WARNING, "it is a folder"),
    "audit store in no folder": (
        settings(DATABASE_URL="sqlite:////proc/none/audit.sqlite"),
        REFUSED,
        "Set DATABASE_URL (without it, DATA_DIR)",
    ),
}


@pytest.mark.parametrize("name", BREAKAGES)
async def test_breakage_of_data_is_named_with_what_to_do(deployment: Deployment, name: str) -> None:
    await assert_is_named(deployment, BREAKAGES[name])


@pytest.mark.slow  # SQLite waits ten seconds for the lock
async def test_locked_audit_store_is_named(deployment: Deployment) -> None:
    await deployment.archive()
    lock = sqlite3.connect(store_file(deployment), isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    done = await doctor(deployment)
    lock.close()
    assert (done.returncode, "another program has locked the file" in sentences(done)) == (WARNING, True)
