"""What to do about a Redis that refuses or does not answer: one sentence for each first word of its errors."""

import ssl
from collections.abc import Mapping
from typing import Final

from redis.exceptions import InvalidResponse, ResponseError

from spokes.core.redis.errors import first_word, unusable_sentence
from spokes.core.redis.key_types import WrongKeyType, wrong_type_sentence

_SENTENCES: Final[Mapping[str, str]] = {
    "READONLY": "this Redis is a replica and takes no writes. Set REDIS_URL to the primary.",
    "MISCONF": (
        "Redis cannot write its data to disk and refuses writes. Free space on its disk, or repair its permissions; "
        "its log names the cause."
    ),
    "NOREPLICAS": (
        "too few replicas are connected, and Redis refuses writes. Start the replicas, or lower min-replicas-to-write."
    ),
    "OOM": "the memory of Redis is full (maxmemory). Add memory, or clear the backlog.",
    "LOADING": "Redis loads its data after a start. Wait; if it lasts, look at its log.",
    "CLUSTERDOWN": "the Redis cluster does not serve all slots. Use a Redis without cluster mode.",
    "MASTERDOWN": "this Redis is a replica that lost its primary. Set REDIS_URL to the primary, or start it.",
    "BUSY": "a script keeps Redis busy. Find the program that runs it, or stop it with SCRIPT KILL.",
    "WRONGTYPE": "a key of Spokes holds another type of value: something else uses this Redis. Find it.",
}
_TLS: Final = (
    "this Redis has none, or its certificate is not accepted. Write redis:// instead of rediss:// in the first case; "
    "see REDIS_TLS_VERIFY in the second."
)


def refusal_sentence(error: BaseException) -> str:
    """Return Redis' first word of an error, and in a sentence what is wrong and what to do."""
    word = first_word(error)
    if isinstance(error, WrongKeyType):
        return f"{word}: {wrong_type_sentence(error.names)}"
    sentence = _SENTENCES.get(word) or unusable_sentence(error)
    if sentence:
        return f"{word}: {sentence}"
    if isinstance(error, ResponseError):
        return f"{word}: Redis refuses a command that Spokes needs. Look at the log of the Redis server."
    causes = [error, error.__cause__, error.__context__]
    if any(isinstance(cause, ssl.SSLError) for cause in causes):
        return f"{word}: TLS fails: {_TLS}"
    if isinstance(error, InvalidResponse):
        return f"{word}: what answers at REDIS_URL is no Redis. Check its host and port."
    return f"{word}: Redis does not answer. Check REDIS_URL and the server."
