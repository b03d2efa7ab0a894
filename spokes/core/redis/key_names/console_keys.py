"""The names of the console's own Redis keys; `spokes.core.redis.key_table.KEYS` lists them with the others."""


def console_session(cookie_hash: str) -> str:
    """Return the key of a session."""
    return f"spokes:console:session:{cookie_hash}"


def console_sessions(user: str) -> str:
    """Return the key of the sessions of a user."""
    return f"spokes:console:sessions:{user}"


def console_login_link(token_hash: str) -> str:
    """Return the key of a login link."""
    return f"spokes:console:link:{token_hash}"


def console_revoked_token(token_hash: str) -> str:
    """Return the key that exists for a revoked API token."""
    return f"spokes:console:revoked:{token_hash}"


def console_rate_limit(limit: str, subject_hash: str, window: int) -> str:
    """Return the key of the number of requests of one actor or address in one window."""
    return f"spokes:console:limit:{limit}:{subject_hash}:{window}"


def used_install_state(nonce_hash: str) -> str:
    """Return the key that exists for an install that was finished or refused."""
    return f"spokes:console:install:{nonce_hash}"
