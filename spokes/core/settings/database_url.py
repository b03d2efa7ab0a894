"""Parse DATABASE_URL as hosts and other languages' clients write it; return an address for SQLAlchemy and asyncpg."""

import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlencode

from spokes.core.settings.url_parts import (
    check_characters,
    is_port,
    scheme_of,
    split_authority,
    split_host,
    split_query,
)

_EXAMPLE: Final = "postgres://user:password@host:5432/name"
_POSTGRESQL: Final = re.compile(r"(postgres|postgresql|pgsql)(\+\w+)?")
_SQLITE: Final = re.compile(r"(sqlite|sqlite3)(\+\w+)?")
# What asyncpg reads itself, and settings of a PostgreSQL session, which it passes to the server.
_SUPPORTED: Final = frozenset(
    {
        "host", "port", "dbname", "database", "user", "password", "passfile", "sslmode", "sslcert", "sslkey",
        "sslrootcert", "sslcrl", "sslpassword", "ssl_min_protocol_version", "ssl_max_protocol_version",
        "target_session_attrs", "application_name", "options", "search_path", "statement_timeout", "lock_timeout",
    }
)  # fmt: skip
_SSLMODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_SSLMODE_OF: Final[Mapping[str, str]] = {
    **{mode: mode for mode in _SSLMODES},
    **dict.fromkeys(("true", "1", "yes", "on", "no-verify", "required"), "require"),
    **dict.fromkeys(("false", "0", "no", "off"), "disable"),
}
_TARGETS: Final = ("any", "primary", "standby", "read-write", "read-only", "prefer-standby")
_FILES: Final = ("sslcert", "sslkey", "sslrootcert", "sslcrl", "passfile")
_TIMEOUT: Final = re.compile(r"\d{1,9}(us|ms|s|min|h|d)?")
_TLS_VERSIONS: Final = ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")


class Database(NamedTuple):
    """The address in SQLAlchemy's spelling, the password if there is one, and names of parameters without meaning."""

    address: str
    password: str = ""
    ignored: tuple[str, ...] = ()


def parse_database_url(text: str) -> Database:
    """Return the database that DATABASE_URL names.

    Raises:
        ValueError: with a sentence that says what to write instead.
    """
    scheme = scheme_of(text)
    if _POSTGRESQL.fullmatch(scheme):
        return _postgresql(text)
    if _SQLITE.fullmatch(scheme):
        return _sqlite(text)
    if scheme:
        raise ValueError(f"names a database that Spokes cannot use: write {_EXAMPLE}, or leave it unset for SQLite")
    raise ValueError(f"has no scheme: write {_EXAMPLE}, or leave it unset for SQLite in DATA_DIR")


def _sqlite(text: str) -> Database:
    path, _, query = text.partition("://")[2].partition("?")
    ignored = tuple(sorted({name for name, _ in parse_qsl(query, keep_blank_values=True)}))
    if path in {"", "/", "/:memory:"} or "mode=memory" in query:
        raise ValueError(
            "names SQLite without a file, which keeps nothing: write sqlite:////absolute/path/audit.sqlite"
        )
    if not path.startswith("/") or not path.isprintable():
        raise ValueError(
            "names no file: write sqlite:////absolute/path/audit.sqlite, or three slashes and a relative path"
        )
    if path.endswith("/"):
        raise ValueError("names a folder: write the path of a file, such as sqlite:////absolute/path/audit.sqlite")
    return Database(f"sqlite+aiosqlite://{path}", ignored=ignored)


def _postgresql(text: str) -> Database:
    check_characters(text, _EXAMPLE)
    rest = text.partition("://")[2]
    if "#" in rest:
        raise ValueError("contains a #, which ends a URL: write %23 if it belongs to the password")
    authority, path, query = re.fullmatch(r"([^/?]*)([^?]*)\??(.*)", rest).groups()  # type: ignore[union-attr]  # it matches any text
    if "@" in path and "@" not in authority and ":" in authority:
        raise ValueError("contains an unescaped / in the password: write %2F")
    if "@" not in authority and "@" in query and ":" in authority and not path:
        raise ValueError("contains an unescaped ? in the password: write %3F")
    if "/" in path.removeprefix("/").removesuffix("/"):
        raise ValueError(f"names a database with a / in it: write {_EXAMPLE}, a / of the password as %2F")
    user, password, hosts = split_authority(authority)
    if not hosts.startswith("%2F") and not hosts.startswith("%2f"):  # the folder of a unix socket
        for host in hosts.split(",") if hosts else ():
            split_host(host, _EXAMPLE)
    options, ignored = _translate(dict(split_query(query)))
    if not hosts and not path.strip("/") and not options:
        raise ValueError(f"names no server: write {_EXAMPLE}")
    if "port" in options and not all(map(is_port, options["port"].split(","))):
        raise ValueError("has a wrong port parameter: write a number from 1 to 65535")
    userinfo = quote(user, safe="") + (f":{quote(password, safe='')}" if password else "")
    netloc = f"{userinfo}@{hosts}" if userinfo else hosts
    name = quote(unquote(path.strip("/")), safe="")
    encoded = urlencode(options, quote_via=quote, safe="/")
    address = f"postgresql+asyncpg://{netloc}/{name}" + (f"?{encoded}" if encoded else "")
    return Database(address, password or options.get("password", ""), ignored)


def _translate(given: dict[str, str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the parameters that asyncpg and the server know, and the names of the others."""
    options: dict[str, str] = {}
    ignored: list[str] = []
    for name, value in given.items():
        if not value:
            ignored.append(name)
        elif name in {"ssl", "sslmode", "ssl-mode", "tls"}:
            if value.lower() not in _SSLMODE_OF:
                raise ValueError(f"has a wrong {name} parameter: write sslmode= and one of {', '.join(_SSLMODES)}")
            options.setdefault("sslmode", _SSLMODE_OF[value.lower()])
            if name == "sslmode":
                options["sslmode"] = _SSLMODE_OF[value.lower()]
        elif name in {"schema", "currentSchema"}:
            options["search_path"] = value
        elif name in _SUPPORTED:
            options[name] = value
        else:
            ignored.append(name)
    system_file = ssl.get_default_verify_paths().cafile
    if options.get("sslrootcert") == "system" and system_file:
        options["sslrootcert"] = system_file  # asyncpg knows files only
    _check_options(options)
    return options, tuple(sorted(ignored))


def _check_options(options: Mapping[str, str]) -> None:
    if options.get("target_session_attrs", "any") not in _TARGETS:
        raise ValueError(f"has a wrong target_session_attrs parameter: write one of {', '.join(_TARGETS)}")
    for name in _FILES:
        if name in options and not _is_file(options[name]):
            raise ValueError(f"has a parameter {name} that names no readable file")
    for name in ("statement_timeout", "lock_timeout"):
        if name in options and not _TIMEOUT.fullmatch(options[name]):
            raise ValueError(f"has a wrong {name} parameter: write a time such as 30s")
    for name in ("ssl_min_protocol_version", "ssl_max_protocol_version"):
        if name in options and options[name] not in _TLS_VERSIONS:
            raise ValueError(f"has a wrong {name} parameter: write one of {', '.join(_TLS_VERSIONS)}")
    is_verified = options.get("sslmode", "").startswith("verify-")
    if is_verified and "sslrootcert" not in options and not _has_root():
        raise ValueError(
            "asks for a verified certificate and names no sslrootcert: add sslrootcert=system for public authorities, "
            "or the path of a file"
        )
    if ("sslcert" in options) != ("sslkey" in options):
        raise ValueError("has one of sslcert and sslkey without the other: write both")
    if any(not value.isprintable() for value in options.values()):
        raise ValueError("has a parameter with a control character")


def _has_root() -> bool:
    """Return whether the file is there that asyncpg reads without sslrootcert, as libpq does."""
    try:
        return (Path.home() / ".postgresql" / "root.crt").is_file()
    except RuntimeError:  # no home
        return False


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_file()
    except (OSError, ValueError):  # a name that no file system accepts
        return False
