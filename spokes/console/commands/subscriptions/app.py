"""`subscriptions`: keep what HubSpot sends and grants as the handlers need it."""

import typer

from spokes.console.commands.subscriptions.drift import drift
from spokes.console.commands.subscriptions.export import export
from spokes.console.commands.subscriptions.journal import app as journal
from spokes.console.commands.subscriptions.push import apply, plan

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Keep HubSpot's subscriptions and scopes as the handlers need them.",
)
app.command()(export)
app.command()(plan)
app.command()(apply)
app.command()(drift)
app.add_typer(journal, name="journal")
