"""The command line: `python -m spokes`, installed also as `spokes`. Rule: an operator reads sentences, not tracebacks.

A command's module is loaded when the command is asked for, so that help costs nothing.
"""

import sys
from importlib import import_module
from typing import Any, Final, NamedTuple, NoReturn

import typer
from typer.core import TyperGroup
from typer.main import get_command

from spokes.console.local.running_stack import load_environment
from spokes.core.errors import SpokesError

_EXIT_ERROR: Final = 2  # exit code; 1 is an answer, such as a broken chain


class CommandSpec(NamedTuple):
    """A command by name: where its function or group is, what it does in a sentence, in which part of the help."""

    name: str
    target: str  # module:attribute
    help: str
    panel: str = "More"

    def load(self) -> Any:
        """Import the command, and make of it what typer runs."""
        module, _, attribute = self.target.partition(":")
        found = getattr(import_module(module), attribute)
        if not isinstance(found, typer.Typer):
            single = typer.Typer(add_completion=False)
            single.command(self.name)(found)
            found = single
        command = get_command(found)
        for one in (command, *getattr(command, "commands", {}).values()):
            one.help = _reflow(one.help or "")
        return command


_RUN, _INSPECT, _ACT, _GOVERN = "Run it", "See what happens", "Step in", "Account for it"
COMMANDS: Final = (
    CommandSpec(
        "up", "spokes.console.commands.up:up", "Run web, workers and the embedded parts in this terminal.", _RUN
    ),
    CommandSpec(
        "serve", "spokes.console.commands.serve:serve", "Run the console: pages and API, on a port of its own.", _RUN
    ),
    CommandSpec(
        "migrate", "spokes.console.commands.migrate:migrate", "Create or upgrade the tables of the audit store.", _RUN
    ),
    CommandSpec(
        "doctor",
        "spokes.console.doctor.report:doctor",
        "Look whether this deployment is well, and say what is not.",
        _RUN,
    ),
    CommandSpec(
        "timeline", "spokes.console.commands.timeline:timeline", "Show all that happened to a CRM object.", _INSPECT
    ),
    CommandSpec(
        "events",
        "spokes.console.commands.events:events",
        "Show what became of events, or of those of an object.",
        _INSPECT,
    ),
    CommandSpec(
        "alerts", "spokes.console.commands.alerts:alerts", "Show the alerts that stand, or try the webhook.", _INSPECT
    ),
    CommandSpec(
        "handlers", "spokes.console.commands.handlers:handlers", "Show what this deployment does, by event.", _INSPECT
    ),
    CommandSpec(
        "send", "spokes.console.commands.send:send", "Send a signed test event to a running web process.", _ACT
    ),
    CommandSpec("dead", "spokes.console.commands.dead:app", "Look at dead letters, replay or discard them.", _ACT),
    CommandSpec("pause", "spokes.console.commands.pause:pause", "Let a portal's work wait, or show what waits.", _ACT),
    CommandSpec("resume", "spokes.console.commands.pause:resume", "Let a portal's work go on.", _ACT),
    CommandSpec(
        "explain-signature",
        "spokes.console.commands.explain_signature:explain_signature",
        "Say why the signature of a captured request does not match.",
        _ACT,
    ),
    CommandSpec("audit", "spokes.console.commands.audit:app", "Query, export and verify the audit.", _GOVERN),
    CommandSpec("privacy", "spokes.console.commands.privacy:app", "Show and erase what is held on a person.", _GOVERN),
    CommandSpec("user", "spokes.console.commands.users:app", "Say who may log in to the console.", _GOVERN),
    CommandSpec(
        "login-link", "spokes.console.commands.users:login_link", "Print a link that logs somebody in once.", _GOVERN
    ),
    CommandSpec("token", "spokes.console.commands.token:app", "Make and take back the tokens of programs.", _GOVERN),
    CommandSpec(
        "secrets",
        "spokes.console.commands.secrets:app",
        "Rotate the key of the secrets that are kept sealed.",
        _GOVERN,
    ),
)


class _LazyGroup(TyperGroup):
    """A group that loads the command it is asked for, and only that one; typer keeps the types of that to itself."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        log_to_stderr()
        for command in COMMANDS:
            if command.name == args[0]:
                self.commands[command.name] = command.load()
        return super().resolve_command(ctx, args)


def log_to_stderr() -> None:
    """Send log lines to standard error: what a command prints is its answer, and may be JSON."""
    import structlog  # noqa: PLC0415 - help needs none

    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))


app = typer.Typer(
    cls=_LazyGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # they would print local variables
    help="Spokes: HubSpot webhooks in, CRM work out. Every command explains itself: spokes audit query --help",
    epilog="Exit codes: 0 done, or the answer is yes; 1 the answer is no, or not all was done; 2 it could not be done, "
    "and a sentence says why. Settings come from the environment (README.md), or from a running `spokes up`.",
)
for _command in COMMANDS:
    app.command(_command.name, help=_command.help, rich_help_panel=_command.panel)(lambda: None)


def main() -> NoReturn:
    """Run the command line; what went wrong is said in a sentence, with exit code 2."""
    try:
        if sys.argv[1:2] != ["up"]:
            load_environment()
        app(prog_name="spokes")
    except Exception as error:
        if not (sentence := _error_message(error)):
            raise
        print(sentence, file=sys.stderr)
    sys.exit(_EXIT_ERROR)


def _reflow(text: str) -> str:
    """Join the lines of each paragraph, so that it flows as wide as the terminal is; examples keep theirs."""
    paragraphs = [paragraph for paragraph in text.split("\n\n") if paragraph.strip()]
    return "\n\n".join(" ".join(part.split("\n")).replace(" Example: ", "\nExample: ") for part in paragraphs)


def _error_message(error: Exception) -> str:
    """Say what is wrong where an operator can put it right; empty for a fault of ours."""
    if isinstance(error, SpokesError):
        return str(error)
    if isinstance(error, OSError):
        return ": ".join(str(part) for part in (error.filename, error.strerror or type(error).__name__) if part)
    redis = sys.modules.get("redis.exceptions")  # an error of Redis' comes from a command that has loaded it
    if redis is not None and isinstance(error, redis.RedisError):
        return f"Redis does not answer ({type(error).__name__}). REDIS_URL says where it is."
    return ""


if __name__ == "__main__":
    main()
