"""spokes.core.master_key: AUDIT_KEY, or a key file that is created once."""

import stat
from pathlib import Path

from spokes.core.master_key import load_master_key
from spokes.core.settings import Settings


def test_master_key_is_generated_once_and_private(tmp_path: Path) -> None:
    environ = {"DATA_DIR": str(tmp_path / "data")}
    first, second = load_master_key(Settings.from_env(environ)), load_master_key(Settings.from_env(environ))
    assert first == second
    assert stat.S_IMODE((tmp_path / "data" / "audit.key").stat().st_mode) == 0o600


def test_audit_key_is_the_master_key(tmp_path: Path) -> None:
    settings = Settings.from_env({"DATA_DIR": str(tmp_path / "data"), "AUDIT_KEY": "a-long-key"})
    assert load_master_key(settings) == "a-long-key"
    assert not (tmp_path / "data").exists()
