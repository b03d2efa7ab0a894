"""The project as it was one commit ago, to run beside what it is now. Rule: the checkout itself is not touched."""

import subprocess
from pathlib import Path

from chaos.child_process import ROOT


def unpack_revision(folder: Path, revision: str) -> str:
    """Put `revision` into `folder`, or this very tree where git or the revision is missing; return which it is."""
    packed = folder.with_suffix(".tar")
    folder.mkdir()
    if _succeeds("git", "archive", "--output", str(packed), revision):
        _succeeds("tar", "--extract", "--file", str(packed), "--directory", str(folder))
        packed.unlink()
        return revision
    folder.rmdir()
    folder.symlink_to(ROOT, target_is_directory=True)
    return "this one, twice"


def _succeeds(*command: str) -> bool:
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False
