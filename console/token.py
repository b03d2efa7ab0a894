"""`token`: a key to the API for a program. Rule: it lives for an hour at most, so nothing has to be taken back."""

from typing import Annotated

import typer

from console.web.policy import Role
from console.web.tokens import LONGEST_S, Tokens
from core.settings import Settings


def token(
    name: Annotated[str, typer.Option(help="Whose acts they are; it stands in the audit.")],
    role: Annotated[list[Role], typer.Option(help="What it may do; may be given several times.")],
    portal: Annotated[list[int] | None, typer.Option(help="A portal it sees; without any, all.")] = None,
    minutes: Annotated[int, typer.Option(help="How long it lives.", min=1, max=LONGEST_S // 60)] = LONGEST_S // 60,
) -> None:
    """Print a token for the API; whoever has it may do what its role may, until it expires.

    Example: curl -H "Authorization: Bearer $(spokes token --role viewer --name ada)" localhost:8080/api/v1/queue
    """
    settings = Settings.from_env(needs=("CONSOLE_KEY",))
    print(Tokens.of(settings).mint(name, role, portal, lives_s=minutes * 60))
