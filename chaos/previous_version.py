"""Unpack another revision of the project, to run together with this one. The working tree is not changed."""

import subprocess
from pathlib import Path

from chaos.child_process import ROOT


def unpack_revision(folder: Path, revision: str) -> str:
    """Unpack `revision` into `folder`, or link this tree if git or the revision is missing; return which one."""
    packed = folder.with_suffix(".tar")
    folder.mkdir()
    if _succeeds("git", "archive", "--output", str(packed), revision):
        _succeeds("tar", "--extract", "--file", str(packed), "--directory", str(folder))
        packed.unlink()
        return revision
    folder.rmdir()
    folder.symlink_to(ROOT, target_is_directory=True)
    return "this revision"


def _succeeds(*command: str) -> bool:
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False
