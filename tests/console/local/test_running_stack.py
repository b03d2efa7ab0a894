"""The variables of a running `up`."""

from pathlib import Path

from spokes.console.local.running_stack import save_environment


def test_file_of_a_run_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    path = save_environment(tmp_path, {"HUBSPOT_CLIENT_SECRET": "made-up-secret"})
    assert path.stat().st_mode & 0o777 == 0o600
