"""What to do about an audit store that refuses or does not answer, by the driver's code of the error.

Only codes and classes are shown: the text of an error may quote what we sent.
"""

import socket
import sqlite3
import ssl
from collections.abc import Mapping
from typing import Final

_UNKNOWN: Final = "DATABASE_URL says where it is."
_SQLSTATES: Final[Mapping[str, str]] = {  # the longest that matches the beginning of PostgreSQL's SQLSTATE
    "28": "PostgreSQL refuses the user or the password in DATABASE_URL. Set it to what your provider shows now.",
    "3D000": "PostgreSQL has no database of the name in DATABASE_URL. Create it, or correct the name.",
    "3F000": "PostgreSQL has no schema of the name in DATABASE_URL. Create it, or correct the name.",
    "42501": "the user in DATABASE_URL lacks a permission. Grant it the schema, and ownership of the audit's tables.",
    "42P01": "a table is missing. Run `spokes migrate`; if it says that all is up to date, restore a backup.",
    "42703": "a column is missing. Run `spokes migrate`; if it says that all is up to date, restore a backup.",
    "53100": "the disk of PostgreSQL is full. Enlarge it.",
    "53300": "PostgreSQL has no free connection. Choose a larger plan, use its pooler, or run fewer processes.",
    "53": "PostgreSQL lacks memory, disk or connections. Choose a larger plan.",
    "57P": "PostgreSQL starts or stops. Wait; if it lasts, look at its log.",
    "57014": "PostgreSQL ended a statement that took too long. Look at its load.",
    "55P03": "another program has locked a table of the audit. End it.",
}
_SQLITE_NAMES: Final[Mapping[str, str]] = {  # the beginning of SQLite's name of an error
    "SQLITE_BUSY": "another program has locked the file. End it, such as a shell of sqlite3 or a backup.",
    "SQLITE_CANTOPEN": "the file cannot be opened: it is a folder, or this user has no access to it.",
    "SQLITE_NOTADB": "the file is no SQLite database. Set DATABASE_URL to another one, or restore a backup.",
    "SQLITE_CORRUPT": "the file is damaged. Restore a backup.",
    "SQLITE_FULL": "the disk is full. Free space on it.",
    "SQLITE_IOERR": "the disk fails or is full. Look at the log of the system.",
    "SQLITE_READONLY": "the file or its folder takes no writes of this user. Change its permissions.",
}
_CLASSES: Final = (
    (socket.gaierror, "the host in DATABASE_URL is unknown. Correct its name."),
    (ConnectionRefusedError, "no server listens at the address in DATABASE_URL. Start it, or correct the address."),
    (ssl.SSLError, "TLS fails: the certificate is not accepted, or the server has none. See sslmode in DATABASE_URL."),
    (TimeoutError, "the server is overloaded, or a firewall drops what is sent to the address in DATABASE_URL."),
)


def error_sentence(error: BaseException) -> str:
    """Return the code or class of an error, and in a sentence what is wrong and what to do."""
    cause: BaseException = getattr(error, "orig", None) or error
    if isinstance(cause, sqlite3.Error):
        return _sqlite_sentence(cause)
    state = str(getattr(cause, "sqlstate", None) or "")
    if prefix := max((known for known in _SQLSTATES if state.startswith(known)), key=len, default=""):
        return f"The audit store does not answer ({state}): {_SQLSTATES[prefix]}"
    cause = cause.__cause__ or cause
    for class_, sentence in _CLASSES:
        if isinstance(cause, class_):
            return f"The audit store does not answer ({type(cause).__name__}): {sentence}"
    return f"The audit store does not answer ({state or type(cause).__name__}). {_UNKNOWN}"


def _sqlite_sentence(error: sqlite3.Error) -> str:
    name = str(getattr(error, "sqlite_errorname", "") or type(error).__name__)
    if str(error).startswith(("no such table", "no such column")):
        return f"The audit store does not answer ({name}): {_SQLSTATES['42P01']}"
    sentence = next((text for known, text in _SQLITE_NAMES.items() if name.startswith(known)), "")
    return (
        f"The audit store does not answer ({name}): {sentence}"
        if sentence
        else (f"The audit store does not answer ({name}). {_UNKNOWN}")
    )
