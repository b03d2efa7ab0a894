"""Which HubSpot scopes the handlers need, and how the token's compare. Rule: derived from declarations, never listed.

Source: HubSpot's docs, "Scopes" and the requirements of each endpoint. Where HubSpot takes one scope or another, either
will do. What a method calls besides its own purpose (a look into the recycle bin, say) counts too.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import structlog

from spokes.crm.object_types import plural, singular
from spokes.crm.transport.token_info import TokenInfo

Need = frozenset[str]  # scopes of which one is enough
log = structlog.get_logger()

# Types whose scopes do not follow crm.objects.<plural>.<read|write>, or have an older name that is still granted.
_ACTIVITIES: Final = frozenset({"note", "task", "call", "email", "meeting", "communication", "postal_mail"})
_OLDER: Final[Mapping[str, str]] = {"ticket": "tickets", "product": "e-commerce", "line_item": "e-commerce"}
_CONTENT: Final[Mapping[str, str]] = {"email": "sales-email-read"}  # without it HubSpot withholds what an e-mail says
_READS: Final = frozenset({"archive"})  # methods that read, though they are named for what they write
_ALWAYS: Final = frozenset({"oauth"})  # every token has it
_EXPORTED: Final = ("contact", "company", "deal", "ticket")


class Declaration(NamedTuple):
    """What one handler declares: the type of the events it takes, the properties it reads, the methods it may call."""

    object_type: str
    reads: Mapping[str, tuple[str, ...]]
    may: frozenset[str]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a token lacks, each with its alternatives, and what it has beyond need."""

    missing: frozenset[Need]
    excess: frozenset[str]

    @property
    def missing_texts(self) -> tuple[str, ...]:
        """What it lacks, as `tickets or crm.objects.tickets.read`."""
        return tuple(sorted(" or ".join(sorted(need, reverse=True)) for need in self.missing))


def needed(declarations: Iterable[Declaration]) -> frozenset[Need]:
    """Return every scope that the handlers need."""
    return frozenset(need for declaration in declarations for need in _needs(declaration))


def compare(needs: frozenset[Need], granted: frozenset[str]) -> Comparison:
    """Return what `granted` lacks of `needs`, and has beyond them."""
    used = frozenset(scope for need in needs for scope in need)
    return Comparison(frozenset(need for need in needs if not need & granted), granted - used - _ALWAYS)


def warn_of_scopes(info: TokenInfo | None, declarations: Iterable[Declaration]) -> Comparison | None:
    """Log what the token lacks or has too much; None, and nothing logged, where its scopes are not known."""
    if info is None or not info.scopes:
        return None
    found = compare(needed(declarations), info.scopes)
    if found.missing:
        log.warning("token_scopes_missing", scopes=found.missing_texts)
    if found.excess:
        log.warning("token_scopes_excess", scopes=sorted(found.excess))
    return found


def _needs(declaration: Declaration) -> set[Need]:
    own = {"objects": declaration.object_type, "object": declaration.object_type}
    reads = {singular(own.get(service, service)) for service in declaration.reads}
    methods = [method.rpartition(".") for method in declaration.may]
    named = [(singular(own.get(service, service)), name) for service, _, name in methods]
    types = reads | {kind for kind, _ in named if kind not in {"association", "associations", "privacy"}}
    needs = {_scope(kind, "read") for kind in reads}
    needs |= {frozenset({_CONTENT[kind]}) for kind in reads if kind in _CONTENT}
    for kind, name in named:
        if kind == "privacy":
            needs |= _privacy(name)
        elif kind in {"association", "associations"}:
            needs |= {_scope(end, "read" if name == "list" else "write") for end in types}
        else:
            needs.add(_scope(kind, "write"))
            needs |= {_scope(kind, "read")} if name in _READS else set()
    return needs


def _privacy(name: str) -> set[Need]:
    if name == "export":
        return {*(_scope(kind, "read") for kind in _EXPORTED), frozenset({_CONTENT["email"]})}
    return {_scope("contact", "read"), _scope("contact", "write")}


def _scope(kind: str, right: Literal["read", "write"]) -> Need:
    area = "contacts" if kind in _ACTIVITIES else "custom" if kind.startswith("2-") else plural(kind)
    older = {_OLDER[kind]} if kind in _OLDER else set()
    return frozenset({f"crm.objects.{area}.{right}", *older})
