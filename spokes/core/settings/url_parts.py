"""Split the URL of a setting, with a sentence for each way in which it cannot be split. No sentence quotes the URL."""

import re
from ipaddress import ip_address
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_HOST_LABEL: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_MAX_HOST: Final = 253  # characters
_MAX_PORT: Final = 65535


class UrlParts(NamedTuple):
    """Parts of a URL; user, password, host and path are decoded, the port is None if the URL names none."""

    scheme: str
    user: str
    password: str
    host: str
    port: int | None
    path: str
    query: tuple[tuple[str, str], ...]


def scheme_of(text: str) -> str:
    """Return the scheme in lower case; empty if there is none."""
    match = _SCHEME.fullmatch(text)
    return match[1].lower() if match else ""


def split_url(text: str, example: str) -> UrlParts:
    """Return the parts of `text`, which may have any scheme.

    Raises:
        ValueError: with a sentence that says what is wrong and shows `example`.
    """
    check_characters(text, example)
    match = _SCHEME.fullmatch(text)
    if match is None:
        raise ValueError(f"has no scheme: write a URL such as {example}")
    before_fragment, fragment, _ = match[2].partition("#")
    if fragment:
        raise ValueError("contains a #, which ends a URL: write %23 if it belongs to the password")
    authority = re.split(r"[/?]", before_fragment, maxsplit=1)[0]
    if "@" in before_fragment and "@" not in authority and ":" in authority:
        raise ValueError("contains an unescaped / or ? in the password: write %2F or %3F")
    user, password, host_and_port = split_authority(authority)
    if "," in host_and_port:
        raise ValueError(f"names several hosts: name one, such as {example}")
    host, port = split_host(host_and_port, example)
    parts = urlsplit("//" + before_fragment.replace(authority, "", 1) if authority else before_fragment)
    return UrlParts(match[1].lower(), user, password, host, port, unquote(parts.path), split_query(parts.query))


def split_query(query: str) -> tuple[tuple[str, str], ...]:
    """Return the parameters of a URL.

    Raises:
        ValueError: with a sentence, if one has two values.
    """
    parameters = tuple(dict.fromkeys(parse_qsl(query, keep_blank_values=True)))
    if len({name for name, _ in parameters}) < len(parameters):
        raise ValueError("gives a parameter two values: write it once")
    return parameters


def is_port(text: str) -> bool:
    """Return whether `text` is the number of a port that a server can have."""
    return text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= _MAX_PORT  # noqa: PLR2004 - digits of the largest


def check_characters(text: str, example: str) -> None:
    """Refuse characters that no URL contains.

    Raises:
        ValueError: with a sentence.
    """
    if any(character.isspace() or not character.isprintable() for character in text):
        raise ValueError(f"contains a blank or a control character: write a URL such as {example}, blanks as %20")
    if any(character in '<>"`{}\\^|' for character in text):
        raise ValueError(
            "contains a character that no URL has, of a placeholder or an unescaped password: write a URL such as "
            f"{example}"
        )


def split_authority(authority: str) -> tuple[str, str, str]:
    """Return the decoded user and password, and the hosts with their ports."""
    userinfo, _, hosts = authority.rpartition("@")
    user, _, password = userinfo.partition(":")
    return unquote(user), unquote(password), hosts


def split_host(text: str, example: str) -> tuple[str, int | None]:
    """Return the host and port of `host:port`; an IPv6 address is in brackets, and the port may be missing.

    Raises:
        ValueError: with a sentence.
    """
    match = re.fullmatch(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::(.*))?", text, re.DOTALL)
    if match is None:
        raise ValueError(f"names no valid host: write a URL such as {example}, an IPv6 address in brackets")
    port = match[2] or None
    if port is not None and not is_port(port):
        raise ValueError(
            "names no valid port: write a number from 1 to 65535, and a : or / of the password as %3A or %2F"
        )
    host = _decode_host(match[1], example)
    return host, None if port is None else int(port)


def _decode_host(text: str, example: str) -> str:
    if text.startswith("["):
        try:
            return str(ip_address(text[1:-1]))
        except ValueError:
            raise ValueError("names no valid IPv6 address between the brackets") from None
    labels = text.removesuffix(".").split(".")
    if text and (len(text) > _MAX_HOST or not all(_HOST_LABEL.fullmatch(label) for label in labels)):
        raise ValueError(f"names no valid host: write a URL such as {example}")
    return text


def is_loopback(host: str) -> bool:
    """Return whether `host` is this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
