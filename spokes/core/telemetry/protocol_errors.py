"""Count bytes that are not HTTP instead of logging them: a stranger must not fill the log."""

import logging
from collections.abc import Callable

from aiohttp.http_exceptions import HttpProcessingError


def server_logger(count: Callable[[], None]) -> logging.Logger:
    """Return the logger for aiohttp's server; it drops records about bytes that are not HTTP and calls `count`."""

    def drop(record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            count()
        return not isinstance(error, HttpProcessingError)

    logger = logging.getLogger("aiohttp.server")
    logger.addFilter(drop)
    return logger
