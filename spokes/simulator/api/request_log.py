"""Log of every call the CRM received and what it wrote. It contains property values, but never the token."""

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from typing import NamedTuple

from spokes.simulator.errors import JsonObject


class LoggedWrite(NamedTuple):
    """The properties, with values, that a call wrote to one object."""

    object_id: str
    properties: dict[str, str]


@dataclass(slots=True)
class LoggedCall:
    """One call. `at_ms` is its arrival (epoch ms); `status` is None until the response, 0 for a broken connection.

    `type_id` and `object_ids` are the objects it addressed, `policy` is the limit that refused it, `fault` is true if a
    fault rule replaced its response; `user_agent` is the caller's.
    """

    at_ms: int
    method: str
    path: str
    portal_id: int | None = None
    type_id: str | None = None
    object_ids: list[str] = field(default_factory=list)
    writes: list[LoggedWrite] = field(default_factory=list)
    status: int | None = None
    latency_ms: float = 0.0
    policy: str | None = None
    fault: bool = False
    user_agent: str = ""

    def as_json(self) -> JsonObject:
        """The call as JSON for the control endpoints."""
        body = asdict(self)
        body["writes"] = [write._asdict() for write in self.writes]
        return body


class RequestLog:
    """The last `history` calls in the order they arrived, and the number of all calls."""

    def __init__(self, history: int) -> None:
        self.calls: deque[LoggedCall] = deque(maxlen=history)
        self.total = 0

    def __len__(self) -> int:
        return len(self.calls)

    def __iter__(self) -> Iterator[LoggedCall]:
        return iter(self.calls)

    def add(self, call: LoggedCall) -> LoggedCall:
        """Add a call on its arrival; its fields are set as it is processed."""
        self.calls.append(call)
        self.total += 1
        return call

    def find(
        self,
        *,
        method: str | None = None,
        path: str | None = None,
        status: int | None = None,
        object_id: str | None = None,
    ) -> list[LoggedCall]:
        """Return the calls that match all filters; `path` is a shell pattern."""
        return [
            call
            for call in self.calls
            if method in {None, call.method}
            and status in {None, call.status}
            and (path is None or fnmatchcase(call.path, path))
            and (object_id is None or object_id in call.object_ids)
        ]

    def writes_to(self, object_id: str) -> list[dict[str, str]]:
        """Return the properties written to one object, oldest first."""
        return [write.properties for call in self.calls for write in call.writes if write.object_id == object_id]

    def by_status(self) -> dict[int | None, int]:
        """Return the number of calls by status."""
        return dict(Counter(call.status for call in self.calls))

    def clear(self) -> None:
        """Remove all calls."""
        self.calls.clear()
        self.total = 0
