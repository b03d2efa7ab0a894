"""Parse REDIS_URL as hosts, redis-py and Celery write it."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from spokes.core.settings.url_parts import UrlParts, scheme_of, split_url

_EXAMPLE: Final = "redis://:password@127.0.0.1:6379/0"
_TCP: Final = frozenset({"redis", "valkey"})
_TLS: Final = frozenset({"rediss", "valkeys"})
_UNIX: Final = frozenset({"unix", "redis+socket", "valkey+socket"})
_CERT_REQS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("none", "cert_none", "0", "false"), "none"),
    **dict.fromkeys(("optional", "cert_optional", "1"), "optional"),
    **dict.fromkeys(("required", "require", "cert_required", "2", "true"), "required"),
}
_TRUE, _FALSE = frozenset({"1", "true", "yes", "on"}), frozenset({"0", "false", "no", "off"})
_TLS_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_MAX_DATABASE: Final = 2**31 - 1


class RedisServer(NamedTuple):
    """Where Redis is, and how to connect.

    Attributes:
        socket: path of a unix socket; `host` and `port` are not used then.
        verify: what the URL says about the server's certificate: none, optional or required; empty if nothing.
        check_host: whether the certificate must name the host; None if the URL does not say so.
        tls_files: paths by redis-py's name: ssl_ca_certs, ssl_certfile, ssl_keyfile.
        ignored: names of parameters that have no meaning here.
    """

    host: str = "localhost"
    port: int = 6379
    socket: str = ""
    database: int = 0
    user: str = ""
    password: str = ""
    tls: bool = False
    verify: str = ""
    check_host: bool | None = None
    tls_files: Mapping[str, str] = {}
    ignored: tuple[str, ...] = ()


def parse_redis_url(text: str) -> RedisServer:
    """Return the server that REDIS_URL names.

    Raises:
        ValueError: with a sentence that says what to write instead.
    """
    scheme = scheme_of(text)
    if scheme and scheme not in _TCP | _TLS | _UNIX:
        raise ValueError(f"has a scheme that is not Redis': write {_EXAMPLE}, or rediss:// for TLS")
    parts = split_url(text, _EXAMPLE)
    if scheme in _UNIX:
        return _unix_server(parts)
    options = dict(parts.query)
    path = parts.path.strip("/")
    names_two = bool(path) and "db" in options and options["db"] != path
    if names_two:
        raise ValueError("names two databases, in its path and as db=: name one")
    return _with_options(
        RedisServer(
            host=parts.host or "localhost",
            port=parts.port or 6379,
            database=_database(path or options.pop("db", "")),
            user=parts.user,
            password=parts.password,
            tls=scheme in _TLS,
        ),
        {name: value for name, value in options.items() if name != "db"},
    )


def _unix_server(parts: UrlParts) -> RedisServer:
    if parts.host or not parts.path.strip("/"):
        raise ValueError("names no socket: write its absolute path with three slashes, such as unix:///run/redis.sock")
    options = dict(parts.query)
    databases = [options.pop(name) for name in ("db", "virtual_host") if name in options]  # the second is Celery's
    server = RedisServer(
        socket=parts.path, database=_database((databases or [""])[0]), user=parts.user, password=parts.password
    )
    return _with_options(server, options)


def _database(text: str) -> int:
    if text and not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= _MAX_DATABASE):  # noqa: PLR2004 - digits of the largest
        raise ValueError(f"names a database that is no number: write /0 to /15 at its end, such as {_EXAMPLE}")
    return int(text or 0)


def _with_options(server: RedisServer, options: dict[str, str]) -> RedisServer:
    """Return `server` with what the URL's parameters say."""
    user, password = options.pop("username", ""), options.pop("password", "")
    server = server._replace(user=server.user or user, password=server.password or password)
    if not server.tls:
        if str(options.get("ssl", options.get("tls", ""))).lower() in _TRUE:
            raise ValueError("asks for TLS by a parameter: write rediss:// instead of redis://")
        return server._replace(ignored=tuple(sorted(options)))
    verify, check_host = options.pop("ssl_cert_reqs", ""), options.pop("ssl_check_hostname", "").lower()
    if verify and re.sub(r"^ssl\.", "", verify.lower()) not in _CERT_REQS:
        raise ValueError("has a wrong ssl_cert_reqs: write none, optional or required")
    if check_host and check_host not in _TRUE | _FALSE:
        raise ValueError("has a wrong ssl_check_hostname: write true or false")
    files = {name: options.pop(name) for name in _TLS_FILES if options.get(name)}
    for name, path in files.items():
        if not _is_file(path):
            raise ValueError(f"has a parameter {name} that names no readable file")
    if ("ssl_certfile" in files) != ("ssl_keyfile" in files):
        raise ValueError("has one of ssl_certfile and ssl_keyfile without the other: write both")
    return server._replace(
        verify=_CERT_REQS[re.sub(r"^ssl\.", "", verify.lower())] if verify else "",
        check_host=check_host in _TRUE if check_host else None,
        tls_files=files,
        ignored=tuple(sorted(options)),
    )


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_file()
    except (OSError, ValueError):  # a name that no file system accepts
        return False
