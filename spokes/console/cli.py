"""The command line: `spokes`, or `python -m spokes`.

A command's module is imported only when the command runs, so that `--help` stays fast. Expected errors are printed as
one sentence, without a traceback.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple, NoReturn

import typer
from typer.core import TyperGroup
from typer.main import get_command

from spokes.console.local.running_stack import load_environment
from spokes.core.errors import SpokesError
from spokes.core.process.env_file import read_env_file
from spokes.core.process.private_files import keep_files_private
from spokes.core.version import VERSION

if TYPE_CHECKING:
    from redis.exceptions import RedisError

_HELP_OPTIONS: Final = ("--help", "-h")
_OWN_SETTINGS: Final = (["up"], ["web"], ["worker"], ["journal"], ["new"])  # not those of a running `up`
_WRITES_PROJECT: Final = (["new"], ["subscriptions"])  # files that others read: a container's user, a colleague
_EXIT_ERROR: Final = 2  # 1 is a negative answer, such as a broken chain


class CommandSpec(NamedTuple):
    """One entry of the help.

    Attributes:
        target: the function or typer group, as `module:attribute`.
        help: one sentence for the list of commands.
        panel: the heading under which the list shows it.
    """

    name: str
    target: str
    help: str
    panel: str

    def load(self) -> Any:
        """Import the command and convert it to a click command."""
        module, _, attribute = self.target.partition(":")
        target = getattr(import_module(module), attribute)
        if not isinstance(target, typer.Typer):
            single = typer.Typer(add_completion=False)
            single.command(self.name)(target)
            target = single
        command = get_command(target)
        for documented in (command, *getattr(command, "commands", {}).values()):
            documented.context_settings.setdefault("help_option_names", list(_HELP_OPTIONS))
            documented.help = _reflow(documented.help or "")
        return command


_RUN, _INSPECT, _ACT, _GOVERN = "Run", "Inspect", "Act", "Audit, privacy and access"
COMMANDS: Final = (
    CommandSpec(
        "new", "spokes.console.commands.new:new", "Write a project with a handler, its test and what deploys it.", _RUN
    ),
    CommandSpec(
        "up",
        "spokes.console.commands.processes.up:up",
        "Run web process, workers and the services that are not configured in this terminal.",
        _RUN,
    ),
    CommandSpec("web", "spokes.console.commands.processes.web:web", "Run the web process.", _RUN),
    CommandSpec("worker", "spokes.console.commands.processes.worker:worker", "Run a worker process.", _RUN),
    CommandSpec(
        "journal", "spokes.console.commands.processes.journal:journal", "Run the reader of HubSpot's journal.", _RUN
    ),
    CommandSpec(
        "serve",
        "spokes.console.commands.processes.serve:serve",
        "Run the console (pages and API) on its own port.",
        _RUN,
    ),
    CommandSpec(
        "migrate", "spokes.console.commands.migrate:migrate", "Create or upgrade the audit store's tables.", _RUN
    ),
    CommandSpec(
        "doctor", "spokes.console.commands.doctor:doctor", "Check this deployment and explain each problem.", _RUN
    ),
    CommandSpec(
        "timeline",
        "spokes.console.commands.records.timeline:timeline",
        "Show everything that happened to a CRM object.",
        _INSPECT,
    ),
    CommandSpec("events", "spokes.console.commands.records.events:events", "Show events and their outcomes.", _INSPECT),
    CommandSpec(
        "queue",
        "spokes.console.commands.queue.queue:queue",
        "Show what waits in the queue, and what workers run now.",
        _INSPECT,
    ),
    CommandSpec(
        "alerts",
        "spokes.console.commands.alerts:alerts",
        "Show the active alerts, or test the alert webhook.",
        _INSPECT,
    ),
    CommandSpec(
        "handlers",
        "spokes.console.commands.handlers:handlers",
        "Show the handlers and the events they process.",
        _INSPECT,
    ),
    CommandSpec(
        "subscriptions",
        "spokes.console.commands.subscriptions.app:app",
        "Keep HubSpot's subscriptions and scopes as the handlers need them.",
        _ACT,
    ),
    CommandSpec(
        "send", "spokes.console.commands.send:send", "Send a signed test event to a running web process.", _ACT
    ),
    CommandSpec("dead", "spokes.console.commands.queue.dead:app", "Show, replay or discard dead letters.", _ACT),
    CommandSpec(
        "pause", "spokes.console.commands.queue.pause:pause", "Pause a portal, or show the paused portals.", _ACT
    ),
    CommandSpec("resume", "spokes.console.commands.queue.pause:resume", "Resume a paused portal.", _ACT),
    CommandSpec(
        "portals",
        "spokes.console.commands.portal.portals:app",
        "Show the portals that installed the app; name, pause or disconnect one.",
        _ACT,
    ),
    CommandSpec(
        "gaps",
        "spokes.console.commands.recovery.gaps:app",
        "Show the intervals in which events may have been missed.",
        _ACT,
    ),
    CommandSpec(
        "backfill",
        "spokes.console.commands.recovery.backfill:backfill",
        "Read the records that changed in an interval, and process the events that were not delivered.",
        _ACT,
    ),
    CommandSpec(
        "backfills",
        "spokes.console.commands.recovery.backfills:app",
        "Show, pause, continue or cancel backfills.",
        _ACT,
    ),
    CommandSpec(
        "explain-signature",
        "spokes.console.commands.explain_signature:explain_signature",
        "Explain why the signature of a captured request does not match.",
        _ACT,
    ),
    CommandSpec("audit", "spokes.console.commands.records.audit:app", "Query, export and verify the audit.", _GOVERN),
    CommandSpec(
        "incident",
        "spokes.console.commands.records.incident:app",
        "Keep an incident with its 72-hour clock, and export it signed.",
        _GOVERN,
    ),
    CommandSpec(
        "privacy", "spokes.console.commands.privacy:app", "Export or erase the data stored about a person.", _GOVERN
    ),
    CommandSpec("user", "spokes.console.commands.users:app", "Manage the accounts of the console.", _GOVERN),
    CommandSpec("login-link", "spokes.console.commands.users:login_link", "Print a one-time login link.", _GOVERN),
    CommandSpec("token", "spokes.console.commands.token:app", "Mint and revoke API tokens for programs.", _GOVERN),
    CommandSpec(
        "secrets",
        "spokes.console.commands.secrets:app",
        "List stored secrets, and re-encrypt them with a new key.",
        _GOVERN,
    ),
)


class _LazyGroup(TyperGroup):
    """A group that imports only the command that is run."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # typer does not export the types
        log_to_stderr()
        for command in COMMANDS:
            if command.name == args[0]:
                self.commands[command.name] = command.load()
        return super().resolve_command(ctx, args)


def log_to_stderr() -> None:
    """Send log lines to standard error, because standard output carries the command's result, possibly as JSON."""
    import structlog  # noqa: PLC0415 - `--help` does not need it

    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))


app = typer.Typer(
    cls=_LazyGroup,
    no_args_is_help=True,
    context_settings={"help_option_names": list(_HELP_OPTIONS)},
    pretty_exceptions_enable=False,  # they would print local variables
    help="Spokes processes HubSpot webhooks. Every command has its own help, with examples: spokes audit query --help",
    epilog="Exit codes: 0 success, or a positive answer; 1 a negative answer, or only part was done; 2 an error, "
    "explained in one sentence. Settings come from the environment (README.md), or from a running `spokes up`.",
)


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        print(f"spokes {VERSION}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


for _command in COMMANDS:
    app.command(_command.name, help=_command.help, rich_help_panel=_command.panel)(lambda: None)


def main() -> NoReturn:
    """Run the command line; an expected error is printed as one sentence, with exit code 2."""
    if sys.argv[1:2] not in _WRITES_PROJECT:
        keep_files_private()
    try:
        _check_arguments()
        read_env_file()
        if sys.argv[1:2] not in _OWN_SETTINGS:
            load_environment()
        app(prog_name="spokes")
    except Exception as error:
        if not (message := _error_message(error)):
            raise
        print(message, file=sys.stderr)
    sys.exit(_EXIT_ERROR)


def _check_arguments() -> None:
    """Refuse arguments that no record can hold: Python keeps bytes that are not UTF-8 as surrogates.

    Raises:
        SpokesError: with a sentence.
    """
    for number, argument in enumerate(sys.argv[1:], 1):
        if any("\ud800" <= character <= "\udfff" for character in argument):
            raise SpokesError(f"Argument {number} holds bytes that are not UTF-8, so nothing was done: write it again.")


def _reflow(text: str) -> str:
    """Join the lines of each paragraph, so that it fills the terminal's width; each example keeps its own line."""
    paragraphs = [paragraph for paragraph in text.split("\n\n") if paragraph.strip()]
    return "\n\n".join(" ".join(part.split("\n")).replace(" Example: ", "\nExample: ") for part in paragraphs)


def _error_message(error: Exception) -> str:
    """Return what went wrong and what to do, if an operator can act on it; empty for a bug in Spokes."""
    if isinstance(error, SpokesError):
        return str(error)
    if isinstance(error, EOFError):
        return "The input ended before it was complete, so nothing was done. Run the command in a terminal."
    if isinstance(error, OSError):
        return ": ".join(str(part) for part in (error.filename, error.strerror or type(error).__name__) if part)
    redis = sys.modules.get("redis.exceptions")  # only a command that has imported redis can raise its errors
    if redis is not None and isinstance(error, redis.RedisError):
        return _redis_message(error)
    return ""


def _redis_message(error: "RedisError") -> str:
    """Return what is wrong with Redis, and what to do."""
    import asyncio  # noqa: PLC0415 - `--help` needs none of these

    from redis.exceptions import ResponseError  # noqa: PLC0415

    from spokes.core.redis.tls_mismatch import explain_refusal  # noqa: PLC0415
    from spokes.core.settings import Settings  # noqa: PLC0415

    sentence = asyncio.run(explain_refusal(error, Settings.from_env()))
    if isinstance(error, ResponseError):
        return sentence
    return f"{sentence} Without REDIS_URL, start `spokes up`, which runs a Valkey."
