"""What a Redis error means for the caller: wait, free memory, skip the key, or end the process.

redis-py maps some first words of an error to a class and strips the word; it leaves others in the text. Pipelines and
scripts put text of their own before it. `classify` knows all of these forms.
"""

import re
from enum import Enum, auto
from typing import Final

from redis.exceptions import (
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    BusyLoadingError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError


class RedisFault(Enum):
    """What an error means."""

    OUTAGE = auto()  # the same call succeeds once Redis is available again
    FULL = auto()  # the same call succeeds once memory is freed
    WRONG_TYPE = auto()  # something else wrote a key of ours
    UNUSABLE = auto()  # no call succeeds until REDIS_URL or the server is changed
    OTHER = auto()  # a bug, or no error of Redis


_AUTHENTICATION: Final = (
    "Redis refuses the user name or the password in REDIS_URL. Set REDIS_URL to what your Redis provider shows now."
)
_PERMISSION: Final = (
    "Redis refuses a command that Spokes needs: the user in REDIS_URL lacks a permission. docs/deploy.md lists the "
    "permissions of a Redis user."
)
_DATABASE: Final = "Redis does not have the database that REDIS_URL names. Most servers have /0 to /15, some only /0."
_CLUSTER: Final = (
    "Redis runs in cluster mode, and Spokes changes keys of several slots in one step. Use a Redis without it."
)
_COMMAND: Final = "Redis does not know a command that Spokes needs. Use Redis 6.2 or later, or Valkey, with scripting."

# By class first: redis-py has stripped the word of these. AuthenticationError is a ConnectionError.
_BY_CLASS: Final[tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], RedisFault, str], ...]] = (
    ((AuthenticationError, AuthenticationWrongNumberOfArgsError), RedisFault.UNUSABLE, _AUTHENTICATION),
    (NoPermissionError, RedisFault.UNUSABLE, _PERMISSION),
    (OutOfMemoryError, RedisFault.FULL, ""),
    ((ReadOnlyError, NoScriptError), RedisFault.OUTAGE, ""),  # the primary has moved; Redis has restarted
    ((RedisConnectionError, RedisTimeoutError, OSError), RedisFault.OUTAGE, ""),
)
_BY_WORD: Final[dict[str, tuple[RedisFault, str]]] = {
    "OOM": (RedisFault.FULL, ""),
    **dict.fromkeys(
        ("MISCONF", "BUSY", "LOADING", "NOREPLICAS", "MASTERDOWN", "READONLY", "CLUSTERDOWN", "TRYAGAIN", "UNKILLABLE",
         "NOSCRIPT", "UNBLOCKED", "WRONGKEY"),
        (RedisFault.OUTAGE, ""),
    ),
    "WRONGTYPE": (RedisFault.WRONG_TYPE, ""),
    **dict.fromkeys(("NOAUTH", "WRONGPASS"), (RedisFault.UNUSABLE, _AUTHENTICATION)),
    "NOPERM": (RedisFault.UNUSABLE, _PERMISSION),
    **dict.fromkeys(("MOVED", "ASK", "CROSSSLOT"), (RedisFault.UNUSABLE, _CLUSTER)),
}  # fmt: skip
# WRONGKEY is our scripts' own word: a key that every delivery needs holds another type, so nothing was written.
# Errors whose first word is ERR, which redis-py strips.
_BY_TEXT: Final[dict[str, tuple[RedisFault, str]]] = {
    "max number of clients": (RedisFault.OUTAGE, ""),
    "script killed by user": (RedisFault.OUTAGE, ""),
    "while the cluster is down": (RedisFault.OUTAGE, ""),
    "db index is out of range": (RedisFault.UNUSABLE, _DATABASE),
    "invalid db index": (RedisFault.UNUSABLE, _DATABASE),
    "select is not allowed in cluster mode": (RedisFault.UNUSABLE, _DATABASE),
    "non local key in a cluster": (RedisFault.UNUSABLE, _CLUSTER),
    "acl failure in script": (RedisFault.UNUSABLE, _PERMISSION),
    "the user executing the script": (RedisFault.UNUSABLE, _PERMISSION),
    "no permissions to": (RedisFault.UNUSABLE, _PERMISSION),
    "unknown command": (RedisFault.UNUSABLE, _COMMAND),
}
_CLASS_OF_WORD: Final[dict[str, type[RedisError]]] = {  # words that redis-py strips
    "READONLY": ReadOnlyError,
    "OOM": OutOfMemoryError,
    "NOPERM": NoPermissionError,
    "LOADING": BusyLoadingError,
    "NOSCRIPT": NoScriptError,
}
_PIPELINE_PREFIX: Final = re.compile(r"^Command # \d+ \(.*\) of pipeline caused error: \(?['\"]?", re.DOTALL)
# At the start; or behind a colon, where Redis 6 quotes the error of a command that a script called.
_WORD: Final = re.compile(rf"(?:^|: -?)({'|'.join(_BY_WORD)})\b")


def classify(error: BaseException) -> RedisFault:
    """Return what `error` means."""
    return _look_up(error)[0]


def unusable_sentence(error: BaseException) -> str:
    """Return what to change if `error` is UNUSABLE, else an empty text."""
    return _look_up(error)[1]


def first_word(error: BaseException) -> str:
    """Return Redis' own first word of an error, or the error's class: a constant for logs."""
    if isinstance(error, AuthenticationError):
        return "NOAUTH" if "required" in str(error) else "WRONGPASS"
    for word, error_class in _CLASS_OF_WORD.items():
        if isinstance(error, error_class):
            return word
    match = _WORD.search(_text(error)) if isinstance(error, ResponseError) else None
    if match:
        return match[1]
    return "NOPERM" if unusable_sentence(error) == _PERMISSION else type(error).__name__  # of a command in a script


def is_redis_outage(error: BaseException) -> bool:
    """Return whether a call to Redis failed that will succeed later; other connections' errors do not count."""
    return isinstance(error, RedisError) and classify(error) in {RedisFault.OUTAGE, RedisFault.FULL}


def is_refused_by_redis(error: BaseException) -> bool:
    """Return whether Redis refuses calls whatever they are: an outage, or a password or permission that was changed.

    The event that needed such a call is not at fault.
    """
    is_refusal = isinstance(error, RedisError) and classify(error) is RedisFault.UNUSABLE
    return is_refusal or is_redis_outage(error)


def _look_up(error: BaseException) -> tuple[RedisFault, str]:
    for classes, fault, sentence in _BY_CLASS:
        if isinstance(error, classes):
            return fault, sentence
    if not isinstance(error, RedisError):
        return RedisFault.OTHER, ""
    text = _text(error)
    if match := _WORD.search(text):
        return _BY_WORD[match[1]]
    lower = text.lower()
    return next((meaning for part, meaning in _BY_TEXT.items() if part in lower), (RedisFault.OTHER, ""))


def _text(error: BaseException) -> str:
    return _PIPELINE_PREFIX.sub("", str(error), count=1)
