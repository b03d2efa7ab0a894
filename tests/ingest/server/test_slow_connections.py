"""ingest.server.slow_connections: which connections have been open too long without a request."""

from ingest.server.slow_connections import SlowConnections


def test_silent_connection_is_overdue_after_the_limit_and_not_before() -> None:
    connections = SlowConnections[str](10)
    assert [connections.overdue(["a"], now) for now in (0, 9.9, 10)] == [[], [], ["a"]]


def test_connection_with_a_request_is_never_overdue() -> None:
    connections = SlowConnections[str](10)
    connections.overdue(["a"], 0)
    connections.saw_request("a")
    assert connections.overdue(["a"], 100) == []


def test_request_before_the_first_check_counts() -> None:
    connections = SlowConnections[str](10)
    connections.saw_request("a")
    assert [connections.overdue(["a"], now) for now in (0, 100)] == [[], []]


def test_limit_of_each_connection_counts_from_its_first_check() -> None:
    connections = SlowConnections[str](10)
    connections.overdue(["a"], 0)
    connections.overdue(["a", "b"], 5)
    assert [connections.overdue(["a", "b"], now) for now in (10, 15)] == [["a"], ["a", "b"]]


def test_closed_connections_are_forgotten() -> None:
    connections = SlowConnections[str](10)
    connections.saw_request("a")
    connections.overdue([], 0)
    assert [connections.overdue(["a"], now) for now in (1, 11)] == [[], ["a"]]
