"""`incident open|note|list|show|close|export|verify`, against both kinds of database."""

import zipfile
from pathlib import Path

import orjson
import pytest
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.archiver import Archiver
from spokes.audit.incidents.incident_store import remove_ids
from spokes.audit.records import Action
from spokes.audit.sql.engine import read_connection, write_connection
from spokes.audit.stream import append
from tests.support.command_line import CompletedCommand, spokes
from tests.support.deployment import KEY, TOKEN
from tests.support.events import record

FINGERPRINT = "0123456789abcdef"
UNREACHABLE = "redis://127.0.0.1:1/0"

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)  # the same on both kinds


class Deployment:
    """The commands of a deployment whose Redis does not answer."""

    def __init__(self, database_url: str, folder: Path) -> None:
        self.environ = {
            "AUDIT_KEY": KEY, "DATABASE_URL": database_url, "REDIS_URL": UNREACHABLE, "HUBSPOT_ACCESS_TOKEN": TOKEN,
        }  # fmt: skip
        self.bundle = folder / "bundle.zip"

    def run(self, *arguments: str) -> CompletedCommand:
        return spokes(self.environ, "incident", *arguments)

    def document(self, *arguments: str) -> dict[str, object]:
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return dict(orjson.loads(done.stdout))

    def opened(self, *arguments: str) -> str:
        return str(self.document("open", "Token leaked", "--since", "1970-01-01", *arguments)["id"])

    def exported(self) -> Path:
        done = self.run("export", self.opened(), "--output", str(self.bundle))
        assert done.returncode == 0, done.stderr
        return self.bundle


@pytest.fixture
async def deployment(redis: Redis, engine: AsyncEngine, database_url: str, tmp_path: Path) -> Deployment:
    """A deployment with three archived records: two events and a write."""
    pipeline = redis.pipeline()
    append(pipeline, record(1, object_id="51"))
    token = {"token_fingerprint": FINGERPRINT}
    append(pipeline, record(2, object_id="51", action=Action.CRM_WRITE, outcome=None, actor="ada", detail=token))
    append(pipeline, record(3, object_id="52"))
    await pipeline.execute()
    await Archiver(redis, engine, KEY).drain()
    return Deployment(database_url, tmp_path)


def test_incident_is_kept_from_opening_to_closing_while_redis_is_away(deployment: Deployment) -> None:
    incident = deployment.opened("--aware", "2h")
    deployment.document("note", incident, "Token revoked")
    deployment.document("note", incident, "Reported", "--notified", "--at", "1h")
    shown = deployment.document("show", incident)
    closed = deployment.document("close", incident, "No other use found")
    notes = deployment.document("show", incident)["notes"]
    assert (shown["state"], shown["clock"], closed["state"]) == ("open", "notified", "closed")
    assert isinstance(notes, list)
    assert [note["text"] for note in notes] == ["Token revoked", "Reported", "No other use found"]


@on_sqlite
def test_list_shows_the_remaining_time_and_what_is_overdue(deployment: Deployment) -> None:
    deployment.opened("--aware", "71h")
    deployment.opened("--aware", "80h")
    table = deployment.run("list").stdout
    assert table.index("OVERDUE by 8 h") < table.index("0 h 59 min left")


@on_sqlite
def test_closed_incident_is_listed_on_demand(deployment: Deployment) -> None:
    incident = deployment.opened()
    deployment.run("close", incident, "done")
    assert deployment.run("list", "--json").stdout == ""
    assert incident in deployment.run("list", "--all").stdout


@pytest.mark.parametrize("narrow", [("--actor", "ada"), ("--token", FINGERPRINT)])
def test_affected_objects_are_those_of_period_and_actor_or_token(
    deployment: Deployment, narrow: tuple[str, str]
) -> None:
    every = deployment.document("show", deployment.opened())["affected"]
    narrowed = deployment.document("show", deployment.opened(*narrow))["affected"]
    later = deployment.document("show", deployment.opened("--since", "1d"))["affected"]
    assert isinstance(every, list)
    assert isinstance(narrowed, list)
    assert [(item["object_id"], item["access"]) for item in every] == [("51", ["read", "written"]), ("52", ["read"])]
    assert [(item["object_id"], item["access"]) for item in narrowed] == [("51", ["written"])]
    assert later == []


def test_each_change_is_audited_in_an_intact_chain(deployment: Deployment) -> None:
    incident = deployment.opened()
    deployment.run("note", incident, "n")
    deployment.run("export", incident, "--output", str(deployment.bundle))
    deployment.run("close", incident, "c")
    lines = spokes(deployment.environ, "audit", "query", "--since", "1h", "--json").stdout.splitlines()
    records = [orjson.loads(line) for line in lines]
    assert [each["action"] for each in reversed(records)] == [
        "incident.opened", "incident.noted", "incident.exported", "incident.closed",
    ]  # fmt: skip
    assert {each["detail"]["incident"] for each in records} == {incident}
    assert spokes(deployment.environ, "audit", "verify").returncode == 0


async def test_personal_data_and_secrets_are_not_stored(deployment: Deployment, engine: AsyncEngine) -> None:
    incident = str(deployment.document("open", f"{TOKEN} of ada@example.com")["id"])
    deployment.run("note", incident, "Called 202-555-0147, key " + KEY)
    async with read_connection(engine) as connection:
        title = await connection.scalar(text("SELECT title FROM incidents"))
        note = await connection.scalar(text("SELECT text FROM incident_notes"))
    assert (title, note) == ("*** of ***", "Called ***, key ***")


async def test_ids_of_an_erased_person_leave_titles_and_notes(deployment: Deployment, engine: AsyncEngine) -> None:
    incident = str(deployment.document("open", "Contact 51 exposed")["id"])
    deployment.run("note", incident, "51, 151 and 510; then 52")
    assert await remove_ids(engine, {"51", "52"}) == 2
    shown = deployment.document("show", incident)
    assert isinstance(shown["notes"], list)
    assert (shown["title"], shown["notes"][0]["text"]) == ("Contact *** exposed", "***, 151 and 510; then ***")


@on_sqlite
@pytest.mark.parametrize(
    "arguments", [("note", "0000", "x"), ("show", "0000"), ("close", "0000", "x"), ("export", "0")]
)
def test_unknown_incident_is_one_sentence(deployment: Deployment, arguments: tuple[str, ...]) -> None:
    done = deployment.run(*arguments)
    assert (done.returncode, done.stderr.startswith("There is no incident '0")) == (2, True)


def test_second_notification_and_second_closing_change_nothing(deployment: Deployment) -> None:
    incident = deployment.opened()
    deployment.run("note", incident, "first", "--notified")
    deployment.run("close", incident, "done")
    again = [deployment.run("note", incident, "again", "--notified"), deployment.run("close", incident, "again")]
    assert [(done.returncode, "already, so nothing was changed" in done.stderr) for done in again] == [(2, True)] * 2
    assert "again" not in deployment.run("show", incident).stdout


def test_bundle_holds_evidence_for_its_owner_only(deployment: Deployment) -> None:
    path = deployment.exported()
    with zipfile.ZipFile(path) as archive:
        document = orjson.loads(archive.read("incident.json"))
        affected = [orjson.loads(line) for line in archive.read("affected.jsonl").splitlines()]
        audit = [orjson.loads(line) for line in archive.read("audit.jsonl").splitlines()]
    assert path.stat().st_mode & 0o777 == 0o600
    assert [item["object_id"] for item in affected] == ["51", "52"]
    assert [row["action"] for row in audit] == ["event", "crm.write", "event", "incident.opened", "incident.exported"]
    assert document["settings"]["HUBSPOT_ACCESS_TOKEN"] == "***"
    assert (document["versions"]["audit_store"], document["alerts"]) == ("0014", None)
    assert [entry["what"] for entry in document["timeline"]][-2:] == ["Opened the incident", "An incident was exported"]
    assert KEY.encode() not in path.read_bytes()


@on_sqlite
def test_bundle_verifies_without_the_audit_store(deployment: Deployment) -> None:
    path = deployment.exported()
    offline = {"AUDIT_KEY": KEY, "DATABASE_URL": "sqlite:////nowhere/audit.sqlite", "REDIS_URL": UNREACHABLE}
    done = spokes(offline, "incident", "verify", str(path))
    assert (done.returncode, done.stdout.endswith(" is intact: 5 audit records.\n")) == (0, True)


@on_sqlite
def test_checkpoint_of_a_bundle_proves_the_chain_later(deployment: Deployment) -> None:
    with zipfile.ZipFile(deployment.exported()) as archive:
        checkpoint = orjson.loads(archive.read("incident.json"))["audit"]["checkpoints"][-1]
    assert checkpoint.startswith("spokes-audit-1:checkpoint:5:")
    assert spokes(deployment.environ, "audit", "verify", "--checkpoint", checkpoint).returncode == 0


@on_sqlite
def test_existing_file_is_not_overwritten(deployment: Deployment) -> None:
    deployment.bundle.write_text("mine")
    done = deployment.run("export", deployment.opened(), "--output", str(deployment.bundle))
    assert (done.returncode, "exists already" in done.stderr, deployment.bundle.read_text()) == (2, True, "mine")


@on_sqlite
def test_bundle_of_another_key_is_refused(deployment: Deployment) -> None:
    done = spokes({"AUDIT_KEY": "9f" * 32}, "incident", "verify", str(deployment.exported()))
    assert (done.returncode, "not signed with this AUDIT_KEY" in done.stdout) == (1, True)


@on_sqlite
@pytest.mark.parametrize("member", ["incident.json", "affected.jsonl", "audit.jsonl", "manifest.json"])
@pytest.mark.parametrize("change", ["edited", "removed", "added"])
def test_changed_bundle_is_detected(deployment: Deployment, member: str, change: str, tmp_path: Path) -> None:
    changed = tmp_path / "changed.zip"
    with zipfile.ZipFile(deployment.exported()) as source, zipfile.ZipFile(changed, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            if name == member:
                data = data.replace(b'"', b"'", 1) if change == "edited" else data
                if change == "removed":
                    continue
            target.writestr(name, data)
        if change == "added":
            target.writestr(f"more-{member}", b"{}")
    done = spokes({"AUDIT_KEY": KEY}, "incident", "verify", str(changed))
    is_manifest_gone = member == "manifest.json" and change != "added"
    assert (done.returncode, "Traceback" in done.stderr) == (2 if is_manifest_gone else 1, False)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"{}"])
def test_file_that_is_no_bundle_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "other"
    file.write_bytes(content)
    done = spokes({"AUDIT_KEY": KEY}, "incident", "verify", str(file))
    assert (done.returncode, "is no incident bundle" in done.stderr) == (2, True)


async def test_broken_audit_is_exported_and_named(deployment: Deployment, engine: AsyncEngine) -> None:
    incident = deployment.opened()
    async with write_connection(engine) as connection:
        await connection.execute(text("UPDATE audit_records SET outcome = 'dead' WHERE seq = 3"))
    exported = deployment.run("export", incident, "--output", str(deployment.bundle))
    verified = spokes({"AUDIT_KEY": KEY}, "incident", "verify", str(deployment.bundle))
    assert (exported.returncode, "Record 3 or the one before it was changed" in exported.stderr) == (1, True)
    assert (verified.returncode, "Record 3" in verified.stdout) == (1, True)


@pytest.mark.parametrize("incident", ["\ufffd", "%00", "5F0C2A91", "5f0c2a91\n"])
def test_text_that_no_database_stores_is_an_unknown_incident(deployment: Deployment, incident: str) -> None:
    done = [
        deployment.run("show", incident),
        deployment.run("note", incident, "x"),
        deployment.run("close", incident, "x"),
    ]
    assert [(each.returncode, "There is no incident" in each.stderr) for each in done] == [(2, True)] * 3


def test_actor_that_no_database_stores_is_refused(deployment: Deployment) -> None:
    done = deployment.run("open", "x", "--actor", "\udcff")
    assert (done.returncode, "not UTF-8" in done.stderr) == (2, True)


@on_sqlite
@pytest.mark.parametrize("time", ["99999999999999999999", "99999999999w", "0", "later"])
def test_impossible_time_is_refused(deployment: Deployment, time: str) -> None:
    done = deployment.run("open", "x", "--until", time)
    assert (done.returncode, "is not a time" in done.stderr, "Traceback" in done.stderr) == (2, True, False)
