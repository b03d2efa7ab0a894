"""The master key of a deployment: AUDIT_KEY, or a key file in DATA_DIR that is created on first use."""

import os
import secrets

from spokes.core.process.private_files import private_folder
from spokes.core.settings import Settings


def shared_master_key(settings: Settings) -> str:
    """Return the master key that all machines of the deployment have; empty if each may have generated its own.

    That is AUDIT_KEY, or the key file beside an embedded Valkey, which serves one machine only.
    """
    if settings.redis_url.get_secret_value() and not settings.audit_key.get_secret_value():
        return ""
    return load_master_key(settings)


def load_master_key(settings: Settings) -> str:
    """Return AUDIT_KEY, or the key in DATA_DIR/audit.key; generate the file if it is missing.

    The file is readable by its owner only.
    """
    if key := settings.audit_key.get_secret_value():
        return key
    path = private_folder(settings.data_dir) / "audit.key"
    # Written to a temporary file and linked into place: two processes that start together must read the same key.
    draft = path.with_suffix(f".{os.getpid()}.{secrets.token_hex(4)}")
    draft.touch(mode=0o600)
    draft.write_text(secrets.token_hex(32))
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    return path.read_text()
