"""`handlers`: the handlers of the deployment."""

from tests.support.command_line import spokes


def test_handlers_are_shown_with_their_events(environ: dict[str, str]) -> None:
    shown = spokes(environ, "handlers").stdout
    assert "contacts.keep_reachable" in shown
    assert "contact.creation" in shown
