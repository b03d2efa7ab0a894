"""Changes of one portal's settings by an operator: checked, recorded in the audit, stored, and published to Redis."""

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeVar

from pydantic import ValidationError
from redis.asyncio import Redis

from spokes.audit.records import Action, AuditRecord
from spokes.audit.stream import append_now
from spokes.console.installs.disconnecting import Operator
from spokes.core.settings.texts import parse_country, parse_event_types, split_list
from spokes.core.spelling import closest, did_you_mean
from spokes.portal import PortalSettings, settings_faults
from spokes.portals.profile import PortalProfile, is_time_zone
from spokes.portals.profile_store import ProfileStore
from spokes.portals.published_profiles import publish
from spokes.portals.store import PortalStore
from spokes.queue.known_portals import known_portals

_MAX_NAME: Final = 100  # characters
_MAX_VALUE: Final = 10_000
_CURRENCY_LETTERS: Final = 3
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class PortalChange:
    """What is changed, as an operator wrote it; None is not changed, an empty text sets nothing any more.

    `values` are settings of handlers' own by name.
    """

    name: str | None = None
    handlers: str | None = None
    events: str | None = None
    region: str | None = None
    time_zone: str | None = None
    currency: str | None = None
    values: tuple[tuple[str, str], ...] = ()

    @property
    def names(self) -> list[str]:
        """The names of what is changed, for the audit."""
        fields = ("name", "handlers", "events", "region", "time_zone", "currency")
        changed = [name for name in fields if getattr(self, name) is not None]
        return [*changed, *(f"setting {name}" for name, _ in self.values)]


def checked_change(change: PortalChange, handlers: AbstractSet[str]) -> Callable[[PortalProfile], PortalProfile]:
    """Return the function that makes a change, without the settings of handlers' own.

    Args:
        change: as an operator wrote it.
        handlers: the names of the deployment's handlers.

    Raises:
        ValueError: with a sentence.
    """
    changes: dict[str, object] = {}
    if change.name is not None:
        changes["name"] = _name(change.name)
    if change.handlers is not None:
        changes["handlers"] = _switches(change.handlers, handlers)
    if change.events is not None:
        changes["events"] = _parsed("events", parse_event_types, change.events.strip()) or ()
    if change.region is not None:
        changes["region"] = _parsed("region", parse_country, change.region.strip())
    if change.time_zone is not None:
        if not is_time_zone(change.time_zone.strip()):
            raise ValueError("time zone: must be a name such as Europe/Oslo")
        changes["time_zone"] = change.time_zone.strip()
    if change.currency is not None:
        changes["currency"] = _currency(change.currency.strip())
    return lambda profile: replace(profile, **changes)  # type: ignore[arg-type]  # each was checked


async def is_known(portal_id: int, store: PortalStore, redis: Redis) -> bool:
    """Return whether this deployment works for a portal, or has done so.

    Raises:
        AuditUnavailable: the store does not answer.
        RedisError, OSError: Redis does not answer.
    """
    return portal_id in await known_portals(redis) or await store.get(portal_id) is not None


def checked_values(
    values: Sequence[tuple[str, str]], stored: dict[str, str], classes: Sequence[type[PortalSettings]]
) -> dict[str, str]:
    """Return the settings of handlers' own after a change; an empty text removes one.

    Raises:
        ValueError: with a sentence, which quotes no value.
    """
    known = {name for cls in classes for name in cls.model_fields}
    changed = dict(stored)
    for name, value in values:
        if name not in known and value:
            hint = f"Known settings: {', '.join(sorted(known))}." if known else "The handlers have no PortalSettings."
            raise ValueError(
                f"setting: the handlers know no setting {name!r}.{did_you_mean(closest(name, known))} {hint}"
            )
        if len(value) > _MAX_VALUE:
            raise ValueError(f"setting {name}: must have at most {_MAX_VALUE} characters")
        changed.pop(name, None)
        if value:
            changed[name] = value
    names = {name for name, _ in values}
    for cls in classes:
        _check_values(cls, {name: value for name, value in changed.items() if name in cls.model_fields}, names)
    return changed


async def change_portal(
    portal_id: int,
    change: PortalChange,
    operator: Operator,
    *,
    handlers: AbstractSet[str],
    classes: Sequence[type[PortalSettings]],
    store: ProfileStore,
    redis: Redis,
) -> PortalProfile:
    """Make a change; processes follow it within seconds. Return the portal's settings.

    Raises:
        ValueError: with a sentence; nothing was changed.
        SecretUnreadable: none of our keys opens the portal's settings of handlers' own.
        AuditUnavailable: the store does not answer.
        RedisError, OSError: Redis does not answer; a worker publishes a stored change later.
    """
    make = checked_change(change, handlers)
    if change.values:
        checked_values(change.values, store.values(await store.read(portal_id)), classes)

    def make_all(profile: PortalProfile) -> PortalProfile:
        changed = make(profile)
        if not change.values:
            return changed
        return store.with_values(changed, checked_values(change.values, store.values(profile), classes))

    detail = {"changed": change.names, **({"address": operator.address} if operator.address else {})}
    record = AuditRecord(
        action=Action.PORTAL_CHANGED, portal_id=portal_id, actor=operator.name, reason=operator.reason, detail=detail
    )
    await append_now(redis, record)
    profile = await store.change(portal_id, make_all)
    await publish(redis, await store.read_all())
    return profile


def _check_values(cls: type[PortalSettings], values: dict[str, str], names: AbstractSet[str]) -> None:
    """Check the changed ones of a class' settings; others may be missing still."""
    try:
        cls.model_validate_strings(values)
    except ValidationError as error:
        concerned = [
            sentence
            for detail, sentence in zip(error.errors(), settings_faults(cls, error, values), strict=True)
            if detail["type"] != "missing" and (not detail["loc"] or str(detail["loc"][0]) in names)
        ]
        if concerned:
            raise ValueError(f"setting: {' '.join(concerned)}") from None


def _parsed(name: str, parse: Callable[[str], _Value], text: str) -> _Value | Literal[""]:
    """Return the value of a text, an empty one as it is; a refusal names the setting."""
    try:
        return parse(text) if text else ""
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _name(text: str) -> str:
    text = text.strip()
    if len(text) > _MAX_NAME or not text.isprintable():
        raise ValueError(f"name: must have at most {_MAX_NAME} printable characters")
    return text


def _switches(text: str, handlers: AbstractSet[str]) -> tuple[str, ...]:
    switches = tuple(dict.fromkeys(_parsed("handlers", split_list, text.strip()) or ()))
    for name in switches:
        handler = name.removeprefix("-")
        if handler not in handlers:
            raise ValueError(
                f"handlers: there is no handler {handler!r}.{did_you_mean(closest(handler, handlers))} "
                "`spokes handlers` lists them."
            )
    if len({name.startswith("-") for name in switches}) > 1:
        raise ValueError("handlers: name those that run, or with a leading - those that do not; not both")
    return switches


def _currency(text: str) -> str:
    if text and not (len(text) == _CURRENCY_LETTERS and text.isascii() and text.isalpha()):
        raise ValueError("currency: must be three letters such as EUR")
    return text.upper()
