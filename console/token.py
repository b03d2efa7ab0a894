"""`token`: a key to the API for a program. Rule: it lives for an hour at most, so nothing has to be taken back."""

from typing import Annotated

import typer

from console.output import AsJson, show_json
from console.web.policy import Role
from console.web.tokens import LONGEST_S, Tokens
from core.settings import Settings


def token(
    name: Annotated[str, typer.Option(help="Whose acts they are; it stands in the audit.")],
    role: Annotated[list[Role], typer.Option(help="What it may do; may be given several times.")],
    portal: Annotated[list[int] | None, typer.Option(help="A portal it sees; without any, all.")] = None,
    minutes: Annotated[int, typer.Option(help="How long it lives.", min=1, max=LONGEST_S // 60)] = LONGEST_S // 60,
    as_json: AsJson = False,
) -> None:
    """Print a token for the API; whoever has it may do what its role may, until it expires.

    A request carries it in the header `Authorization: Bearer TOKEN`.

    Example: spokes token --role viewer --name ada
    """
    settings = Settings.from_env(needs=("CONSOLE_KEY",))
    minted = Tokens.of(settings).mint(name, role, portal, lives_s=minutes * 60)
    if as_json:
        show_json({"token": minted, "expires_in_s": minutes * 60})
    else:
        print(minted)
