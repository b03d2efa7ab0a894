"""The filter options of the audit commands."""

from typer.testing import CliRunner

from spokes.console.commands.records.audit import app


def test_invalid_time_is_a_usage_error() -> None:
    result = CliRunner().invoke(app, ["query", "--since", "yesterday"])
    assert (result.exit_code, "is not a time" in result.output) == (2, True)
