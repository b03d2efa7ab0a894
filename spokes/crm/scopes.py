"""The HubSpot scopes that the handlers need, derived from their declarations, and their comparison with the token's.

If HubSpot takes one scope or another, either is enough. A method also needs the scopes of its secondary
calls, such as reading the recycle bin.
Source: HubSpot's docs, "Scopes" and the requirements of each endpoint.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeAlias

import structlog

from spokes.crm.object_types import plural, singular
from spokes.crm.transport.token_info import TokenInfo

_Right: TypeAlias = Literal["read", "write"]
ScopeRequirement = frozenset[str]  # alternative scopes: one of them is enough
log = structlog.get_logger()

# Types whose scopes do not follow crm.objects.<plural>.<read|write>, or have an older name that is still granted.
_ACTIVITIES: Final = frozenset({"note", "task", "call", "email", "meeting", "communication", "postal_mail"})
_ALTERNATIVE_SCOPES: Final[Mapping[str, str]] = {
    "ticket": "tickets",
    "product": "e-commerce",
    "line_item": "e-commerce",
}
_CONTENT_SCOPES: Final[Mapping[str, str]] = {"email": "sales-email-read"}  # otherwise HubSpot withholds the text
_WRITES_THAT_READ: Final = frozenset({"archive"})  # write methods that also read
_IMPLICIT_SCOPES: Final = frozenset({"oauth"})  # every token has it
_EXPORTED_TYPES: Final = ("contact", "company", "deal", "ticket")
_NO_RECORDS: Final = frozenset(
    {"object", "event", "conversation", "portal"}
)  # families of events without a type of records
_ASSOCIATIONS: Final = frozenset({"association", "associations"})
_CUSTOM_TYPE: Final = re.compile(r"2-\d+|p\d+_.+")
_UNNAMED_TYPE: Final = re.compile(r"(?!2-)\d+-\d+")  # of HubSpot's own types, newer than this version


class Declaration(NamedTuple):
    """What one handler declares: the object type of its events, the properties it reads, the methods it may call."""

    object_type: str
    reads: Mapping[str, tuple[str, ...]]
    may: frozenset[str]


@dataclass(frozen=True, slots=True)
class ScopeComparison:
    """The scopes that a token lacks, each with its alternatives, and those it has without need."""

    missing: frozenset[ScopeRequirement]
    excess: frozenset[str]

    @property
    def missing_texts(self) -> tuple[str, ...]:
        """The missing scopes, as `tickets or crm.objects.tickets.read`."""
        return tuple(sorted(" or ".join(sorted(alternatives, reverse=True)) for alternatives in self.missing))


def required_scopes(declarations: Iterable[Declaration]) -> frozenset[ScopeRequirement]:
    """Return every scope that the handlers need, also those without which HubSpot sends them no events."""
    return frozenset(
        requirement
        for declaration in declarations
        for requirement in (
            *event_scopes(declaration.object_type),
            *(requirement for requirement, _ in scope_causes(declaration)),
        )
    )


def requested_scopes(required: frozenset[ScopeRequirement], preferred: Collection[str] = ()) -> tuple[str, ...]:
    """Return the scopes that an install asks for: one of each requirement's alternatives, and `oauth`.

    Of alternatives, the one in `preferred` is asked for, else the older name, which every account grants.
    """
    chosen = {
        next((scope for scope in sorted(alternatives, reverse=True) if scope in preferred), max(alternatives))
        for alternatives in required
    }
    return tuple(sorted(chosen | _IMPLICIT_SCOPES))


def compare_scopes(required: frozenset[ScopeRequirement], granted: frozenset[str]) -> ScopeComparison:
    """Return which of the `required` scopes `granted` lacks, and which it has beyond them."""
    needed = frozenset(scope for alternatives in required for scope in alternatives)
    missing = frozenset(alternatives for alternatives in required if not alternatives & granted)
    return ScopeComparison(missing, granted - needed - _IMPLICIT_SCOPES)


def log_scope_differences(info: TokenInfo | None, declarations: Iterable[Declaration]) -> ScopeComparison | None:
    """Log which scopes the token lacks or has without need; return None, without a log, if its scopes are unknown."""
    if info is None or not info.scopes:
        return None
    comparison = compare_scopes(required_scopes(declarations), info.scopes)
    if comparison.missing:
        log.warning("token_scopes_missing", scopes=comparison.missing_texts)
    if comparison.excess:
        log.warning("token_scopes_excess", scopes=sorted(comparison.excess))
    return comparison


def scope_causes(declaration: Declaration) -> Iterator[tuple[ScopeRequirement, str]]:
    """Return each scope that a handler needs, with what needs it: `reads deals`, or a method such as `deals.update`."""
    own_names = {"objects": declaration.object_type, "object": declaration.object_type}
    read_types = sorted({singular(own_names.get(service, service)) for service in declaration.reads} - _NO_RECORDS)
    parts = [(method, *method.rpartition(".")) for method in sorted(declaration.may)]
    all_methods = [(method, singular(own_names.get(service, service)), name) for method, service, _, name in parts]
    methods = [method for method in all_methods if method[1] not in _NO_RECORDS]
    services = {service for _, service, _ in methods if service not in {*_ASSOCIATIONS, "privacy"}}
    for type_name in read_types:
        yield _requirement(type_name, "read"), f"reads {plural(type_name)}"
        if type_name in _CONTENT_SCOPES:
            yield frozenset({_CONTENT_SCOPES[type_name]}), f"reads {plural(type_name)}"
    for method, service, name in methods:
        if service == "privacy":
            requirements = _privacy_requirements(name)
        elif service in _ASSOCIATIONS:
            right: _Right = "read" if name == "list" else "write"
            requirements = {_requirement(type_name, right) for type_name in {*read_types, *services}}
        else:
            rights: tuple[_Right, ...] = ("write", "read") if name in _WRITES_THAT_READ else ("write",)
            requirements = {_requirement(service, right) for right in rights}
        for requirement in requirements:
            yield requirement, method


def event_scopes(object_type: str) -> frozenset[ScopeRequirement]:
    """Return the scopes without which HubSpot sends no events of an object type; none if the type does not say which.

    A registration for every type, or for a standard type that only its id names, leaves it open.
    """
    if object_type == "conversation":
        return frozenset({frozenset({"conversations.read"})})
    if object_type in _NO_RECORDS or _UNNAMED_TYPE.fullmatch(object_type):
        return frozenset()
    return frozenset({_requirement(object_type, "read")})


def _privacy_requirements(method: str) -> set[ScopeRequirement]:
    if method == "export":
        return {*(_requirement(name, "read") for name in _EXPORTED_TYPES), frozenset({_CONTENT_SCOPES["email"]})}
    return {_requirement("contact", "read"), _requirement("contact", "write")}


def _requirement(type_name: str, right: _Right) -> ScopeRequirement:
    area = (
        "contacts" if type_name in _ACTIVITIES else "custom" if _CUSTOM_TYPE.fullmatch(type_name) else plural(type_name)
    )
    alternatives = {_ALTERNATIVE_SCOPES[type_name]} if type_name in _ALTERNATIVE_SCOPES else set()
    return frozenset({f"crm.objects.{area}.{right}", *alternatives})
