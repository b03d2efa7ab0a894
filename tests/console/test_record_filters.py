"""The filter options of the audit commands."""

import pytest
from typer.testing import CliRunner

from spokes.console.commands.records.audit import app


def test_invalid_time_is_a_usage_error() -> None:
    result = CliRunner().invoke(app, ["query", "--since", "yesterday"])
    assert (result.exit_code, "is not a time" in result.output) == (2, True)


@pytest.mark.parametrize("text", ["pat-eu1-11112222-3333-4444", "0123456789ABCDEF", "0" * 17, ""])
@pytest.mark.parametrize("command", ["query", "export", "affected"])
def test_text_that_is_no_fingerprint_is_a_usage_error(command: str, text: str) -> None:
    result = CliRunner().invoke(app, [command, "--since", "1d", "--token", text])
    assert (result.exit_code, "is not a fingerprint" in result.output) == (2, True)
    assert "pat-eu1" not in result.output
