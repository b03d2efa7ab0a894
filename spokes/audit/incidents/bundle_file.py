"""The signed file that an incident is exported to: a zip archive whose manifest names the SHA-256 of every member.

The manifest is signed with a key derived from AUDIT_KEY. `verify_bundle` needs the file and this key, and neither the
audit store nor Redis.
"""

import hashlib
import hmac
import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Final

import orjson

from spokes.audit.checkpoints import Checkpoint, signing_key
from spokes.audit.incidents.audit_slice import SliceBounds, SliceCheck
from spokes.core.clock import now_ms
from spokes.core.errors import IncidentRejected
from spokes.core.masking import derive_key

FORMAT: Final = "spokes-incident-1"
INCIDENT, AFFECTED, AUDIT, MANIFEST = "incident.json", "affected.jsonl", "audit.jsonl", "manifest.json"
_MAX_MANIFEST: Final = 100_000  # bytes
_CHUNK: Final = 1 << 16
_DAMAGE: Final = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError, KeyError, TypeError)


class BundleWriter:
    """Writes the members of a bundle one after the other, in constant memory."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._files: dict[str, dict[str, object]] = {}

    @contextmanager
    def member(self, name: str) -> Iterator["MemberWriter"]:
        """Yield a writer of one member."""
        with self._archive.open(name, "w", force_zip64=True) as file:
            writer = MemberWriter(file)
            yield writer
        self._files[name] = {"sha256": writer.digest.hexdigest(), "bytes": writer.size}

    def sign(self, incident_id: str, master_key: str) -> None:
        """Write the signed manifest, after all members."""
        signed = {"format": FORMAT, "incident": incident_id, "signed_at": now_ms(), "files": self._files}
        self._archive.writestr(MANIFEST, orjson.dumps({**signed, "signature": _signature(signed, master_key)}))


class MemberWriter:
    """Writes JSON and computes the member's hash."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.size = 0

    def write_json(self, document: object, *, indented: bool = False) -> None:
        """Write one document and a line feed."""
        options = orjson.OPT_APPEND_NEWLINE | (orjson.OPT_INDENT_2 if indented else 0)
        data = orjson.dumps(document, option=options, default=repr)  # only a tampered row holds what JSON does not
        self._file.write(data)
        self.digest.update(data)
        self.size += len(data)


@contextmanager
def new_bundle(path: Path) -> Iterator[BundleWriter]:
    """Create a bundle, readable by its owner only; remove the file if its contents are not completed.

    Raises:
        IncidentRejected: there is a file of this name already; evidence is not overwritten.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise IncidentRejected(f"The file {str(path)!r} exists already. Write another name with --output.") from None
    try:
        with os.fdopen(descriptor, "w+b") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
                yield BundleWriter(archive)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise


@dataclass(frozen=True, slots=True)
class BundleResult:
    """The result of `verify_bundle`; `problem` is empty if the bundle is as it was signed and its audit is intact."""

    incident: str
    signed_at: int  # epoch ms
    records: int
    problem: str = ""

    @property
    def sentence(self) -> str:
        """The result as a sentence."""
        return self.problem or f"The bundle of incident {self.incident} is intact: {self.records:,} audit records."

    def as_dict(self) -> dict[str, object]:
        """Return the result, ready for JSON."""
        return {"intact": not self.problem, **asdict(self)}


def verify_bundle(path: Path, master_key: str) -> BundleResult:
    """Check signature, members and the chain of the audit records.

    Raises:
        IncidentRejected: the file is not a bundle.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                manifest = _read_manifest(archive)
                result = _check_signed(archive, manifest, master_key)
        except (zipfile.BadZipFile, IncidentRejected):
            raise IncidentRejected(
                f"The file {str(path)!r} is no incident bundle, or it is damaged. `spokes incident export` writes one."
            ) from None
    return result


def _check_signed(archive: zipfile.ZipFile, manifest: dict[str, object], master_key: str) -> BundleResult:
    signature = str(manifest.pop("signature", ""))
    incident, signed_at, files = str(manifest.get("incident")), manifest.get("signed_at"), manifest.get("files")
    changed = BundleResult(incident, signed_at if isinstance(signed_at, int) else 0, 0)
    if not hmac.compare_digest(_signature(manifest, master_key).encode(), signature.encode(errors="replace")):
        return _with_problem(changed, "The bundle was changed, or it was not signed with this AUDIT_KEY.")
    if not isinstance(files, dict) or sorted(archive.namelist()) != sorted([*files, MANIFEST]):
        return _with_problem(changed, "The bundle was changed: files were added or removed.")
    for name, expected in files.items():
        if _digest(archive, name, expected["bytes"]) != expected["sha256"]:
            return _with_problem(changed, f"The bundle was changed: {name} is not what was signed.")
    problem, records = _check_audit(archive, master_key)
    return BundleResult(incident, changed.signed_at, records, problem)


def _check_audit(archive: zipfile.ZipFile, master_key: str) -> tuple[str, int]:
    """Return what is wrong with the audit records, and how many they are. The members are signed."""
    proof = orjson.loads(archive.read(INCIDENT))["audit"]
    checkpoints = [Checkpoint.from_text(line) for line in proof["checkpoints"]]
    bounds = SliceBounds(proof["first_seq"], proof["last_seq"], proof["previous_hash"])
    check = SliceCheck(bounds, checkpoints)
    with archive.open(AUDIT) as lines:
        for line in lines:
            check.add(orjson.loads(line))
    return check.finish() or proof["problem"] or forged_checkpoint(checkpoints, master_key), check.records


def forged_checkpoint(checkpoints: Iterable[Checkpoint], master_key: str) -> str:
    """Return a sentence about the first checkpoint that was not signed with our key; empty if there is none."""
    key = signing_key(master_key)
    forged = next((checkpoint for checkpoint in checkpoints if not checkpoint.is_genuine(key)), None)
    return f"The checkpoint of record {forged.seq} was not signed with this AUDIT_KEY." if forged else ""


def _read_manifest(archive: zipfile.ZipFile) -> dict[str, object]:
    try:
        with archive.open(MANIFEST) as file:
            manifest = orjson.loads(file.read(_MAX_MANIFEST))
    except _DAMAGE:
        raise IncidentRejected from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise IncidentRejected
    return manifest


def _digest(archive: zipfile.ZipFile, name: str, size: int) -> str:
    """Return the SHA-256 of a member of at most `size` bytes; empty if it is larger or damaged."""
    digest = hashlib.sha256()
    try:
        with archive.open(name) as file:
            while chunk := file.read(_CHUNK):
                size -= len(chunk)
                if size < 0:
                    return ""
                digest.update(chunk)
    except _DAMAGE:
        return ""
    return digest.hexdigest()


def _with_problem(result: BundleResult, problem: str) -> BundleResult:
    return BundleResult(result.incident, result.signed_at, result.records, problem)


def _signature(manifest: dict[str, object], master_key: str) -> str:
    key = derive_key(master_key, "incident bundles")
    try:
        return hmac.new(key, orjson.dumps(manifest, option=orjson.OPT_SORT_KEYS), "sha256").hexdigest()
    except orjson.JSONEncodeError:
        return ""
