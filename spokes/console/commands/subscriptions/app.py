"""`subscriptions`: keep what HubSpot sends and grants as the handlers need it."""

import typer

from spokes.console.commands.subscriptions.export import export

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Keep HubSpot's subscriptions and scopes as the handlers need them.",
)
app.callback()(lambda: None)  # or a single command would not need its name
app.command()(export)
