"""ingest.server.http_server: who has been connected for too long without a request."""

from ingest.server.http_server import Newcomers


def test_silent_connection_is_late_after_its_time_and_not_before() -> None:
    newcomers = Newcomers[str](10)
    assert [newcomers.late(["a"], now) for now in (0, 9.9, 10)] == [[], [], ["a"]]


def test_connection_that_was_heard_is_never_late() -> None:
    newcomers = Newcomers[str](10)
    newcomers.late(["a"], 0)
    newcomers.heard("a")
    assert newcomers.late(["a"], 100) == []


def test_request_that_came_before_the_first_look_counts() -> None:
    newcomers = Newcomers[str](10)
    newcomers.heard("a")
    assert [newcomers.late(["a"], now) for now in (0, 100)] == [[], []]


def test_time_of_each_connection_runs_from_when_it_was_first_seen() -> None:
    newcomers = Newcomers[str](10)
    newcomers.late(["a"], 0)
    newcomers.late(["a", "b"], 5)
    assert [newcomers.late(["a", "b"], now) for now in (10, 15)] == [["a"], ["a", "b"]]


def test_closed_connections_are_forgotten() -> None:
    newcomers = Newcomers[str](10)
    newcomers.heard("a")
    newcomers.late([], 0)
    assert [newcomers.late(["a"], now) for now in (1, 11)] == [[], ["a"]]
