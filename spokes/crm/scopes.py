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

ScopeRequirement = frozenset[str]  # scopes of which one is enough
log = structlog.get_logger()

# Types whose scopes do not follow crm.objects.<plural>.<read|write>, or have an older name that is still granted.
_ACTIVITIES: Final = frozenset({"note", "task", "call", "email", "meeting", "communication", "postal_mail"})
_ALTERNATIVE_SCOPES: Final[Mapping[str, str]] = {
    "ticket": "tickets",
    "product": "e-commerce",
    "line_item": "e-commerce",
}
_CONTENT_SCOPES: Final[Mapping[str, str]] = {
    "email": "sales-email-read"
}  # without it HubSpot withholds what an e-mail says
_WRITES_THAT_READ: Final = frozenset({"archive"})  # methods that read, though they are named for what they write
_IMPLICIT_SCOPES: Final = frozenset({"oauth"})  # every token has it
_EXPORTED_TYPES: Final = ("contact", "company", "deal", "ticket")


class Declaration(NamedTuple):
    """What one handler declares: the type of the events it takes, the properties it reads, the methods it may call."""

    object_type: str
    reads: Mapping[str, tuple[str, ...]]
    may: frozenset[str]


@dataclass(frozen=True, slots=True)
class ScopeComparison:
    """What a token lacks, each with its alternatives, and what it has beyond need."""

    missing: frozenset[ScopeRequirement]
    excess: frozenset[str]

    @property
    def missing_texts(self) -> tuple[str, ...]:
        """What it lacks, as `tickets or crm.objects.tickets.read`."""
        return tuple(sorted(" or ".join(sorted(need, reverse=True)) for need in self.missing))


def required_scopes(declarations: Iterable[Declaration]) -> frozenset[ScopeRequirement]:
    """Return every scope that the handlers need."""
    return frozenset(need for declaration in declarations for need in _requirements(declaration))


def compare_scopes(required: frozenset[ScopeRequirement], granted: frozenset[str]) -> ScopeComparison:
    """Return what `granted` lacks of `needs`, and has beyond them."""
    used = frozenset(scope for need in required for scope in need)
    return ScopeComparison(
        frozenset(need for need in required if not need & granted), granted - used - _IMPLICIT_SCOPES
    )


def log_scope_differences(info: TokenInfo | None, declarations: Iterable[Declaration]) -> ScopeComparison | None:
    """Log what the token lacks or has too much; None, and nothing logged, where its scopes are not known."""
    if info is None or not info.scopes:
        return None
    found = compare_scopes(required_scopes(declarations), info.scopes)
    if found.missing:
        log.warning("token_scopes_missing", scopes=found.missing_texts)
    if found.excess:
        log.warning("token_scopes_excess", scopes=sorted(found.excess))
    return found


def _requirements(declaration: Declaration) -> set[ScopeRequirement]:
    own = {"objects": declaration.object_type, "object": declaration.object_type}
    reads = {singular(own.get(service, service)) for service in declaration.reads}
    methods = [method.rpartition(".") for method in declaration.may]
    named = [(singular(own.get(service, service)), name) for service, _, name in methods]
    types = reads | {kind for kind, _ in named if kind not in {"association", "associations", "privacy"}}
    needs = {_requirement(kind, "read") for kind in reads}
    needs |= {frozenset({_CONTENT_SCOPES[kind]}) for kind in reads if kind in _CONTENT_SCOPES}
    for kind, name in named:
        if kind == "privacy":
            needs |= _privacy_requirements(name)
        elif kind in {"association", "associations"}:
            needs |= {_requirement(end, "read" if name == "list" else "write") for end in types}
        else:
            needs.add(_requirement(kind, "write"))
            needs |= {_requirement(kind, "read")} if name in _WRITES_THAT_READ else set()
    return needs


def _privacy_requirements(name: str) -> set[ScopeRequirement]:
    if name == "export":
        return {*(_requirement(kind, "read") for kind in _EXPORTED_TYPES), frozenset({_CONTENT_SCOPES["email"]})}
    return {_requirement("contact", "read"), _requirement("contact", "write")}


def _requirement(kind: str, right: Literal["read", "write"]) -> ScopeRequirement:
    area = "contacts" if kind in _ACTIVITIES else "custom" if kind.startswith("2-") else plural(kind)
    older = {_ALTERNATIVE_SCOPES[kind]} if kind in _ALTERNATIVE_SCOPES else set()
    return frozenset({f"crm.objects.{area}.{right}", *older})
