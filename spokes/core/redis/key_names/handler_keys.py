"""The names of Redis keys of handlers and of the hosts that they call; `key_table` lists them with the others."""


def handler_runs(handler: str) -> str:
    """Return the key of the runs of a handler whose number is limited."""
    return f"spokes:handler:{handler}:runs"


def handler_starts(handler: str) -> str:
    """Return the key of the newest starts of a handler whose rate is limited."""
    return f"spokes:handler:{handler}:starts"


def handler_turn(handler: str) -> str:
    """Return the key of the time for which the next refused run of a limited handler is planned."""
    return f"spokes:handler:{handler}:turn"


def host_calls(host: str) -> str:
    """Return the key of the newest calls of a host whose rate is limited."""
    return f"spokes:host:{host}:calls"


def host_turn(host: str) -> str:
    """Return the key of the time for which the next refused call of a host is planned."""
    return f"spokes:host:{host}:turn"
