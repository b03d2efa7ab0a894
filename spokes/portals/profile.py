"""`PortalProfile`: what an operator has set for one portal, and what HubSpot says about its account. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Self
from zoneinfo import ZoneInfo

import orjson

from spokes.core.errors import UnreadableDelivery

_UTC: Final = "UTC"


@dataclass(frozen=True, slots=True)
class AccountDetails:
    """What HubSpot says about a portal's account; empty texts where it says nothing."""

    name: str = ""
    time_zone: str = ""
    currency: str = ""

    @classmethod
    def from_details(cls, details: Mapping[str, Any]) -> Self:
        """Return the account of a response of HubSpot's endpoint of account details."""
        zone = _text(details.get("timeZone"), 60)
        return cls(
            _text(details.get("portalName"), 100), zone if is_time_zone(zone) else "",
            _text(details.get("companyCurrency"), 3).upper(),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class PortalProfile:
    """The settings of one portal.

    `handlers` are those that run, or with a leading `-` those that do not; empty: all run. `events` are entries as of
    ALLOWED_EVENTS that restrict what is admitted; empty: what the deployment admits. `sealed_values` are the settings
    of handlers' own, sealed. Empty texts are not set: `account` counts, or the deployment's setting.
    """

    portal_id: int
    name: str = ""
    time_zone: str = ""
    currency: str = ""
    region: str = ""
    handlers: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    sealed_values: str = ""
    account: AccountDetails = field(default_factory=AccountDetails)

    @property
    def is_restricted(self) -> bool:
        """Whether some handlers or event types are switched off."""
        return bool(self.handlers or self.events)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is set and nothing is known."""
        return self == PortalProfile(self.portal_id)

    @property
    def shown_name(self) -> str:
        """The operator's name, else the account's."""
        return self.name or self.account.name

    @property
    def zone(self) -> ZoneInfo:
        """The time zone, UTC while it is unknown."""
        return ZoneInfo(self.time_zone or self.account.time_zone or _UTC)

    def has_handler(self, name: str) -> bool:
        """Return whether a handler runs for the portal's events."""
        return is_switched_on(self.handlers, name)

    def to_json(self) -> str:
        """Return the stored form, without what is not set."""
        stored = {name: value for name, value in asdict(self).items() if value and name not in {"portal_id", "account"}}
        account = {name: value for name, value in asdict(self.account).items() if value}
        return orjson.dumps(stored | ({"account": account} if account else {})).decode()

    @classmethod
    def from_json(cls, portal_id: int, stored: str | bytes) -> Self:
        """Parse the stored form; fields of later versions are left out.

        Raises:
            UnreadableDelivery: it is no JSON object of texts.
        """
        try:
            fields: dict[str, Any] = orjson.loads(stored)
            account: dict[str, Any] = fields.get("account") or {}
            profile = cls(
                portal_id,
                name=str(fields.get("name", "")),
                time_zone=str(fields.get("time_zone", "")),
                currency=str(fields.get("currency", "")),
                region=str(fields.get("region", "")),
                handlers=tuple(map(str, fields.get("handlers", ()))),
                events=tuple(map(str, fields.get("events", ()))),
                sealed_values=str(fields.get("sealed_values", "")),
                account=AccountDetails(
                    **{name: str(account.get(name, "")) for name in ("name", "time_zone", "currency")}
                ),
            )
        except (orjson.JSONDecodeError, AttributeError, TypeError) as error:
            raise UnreadableDelivery from error
        if is_time_zone(profile.time_zone) and is_time_zone(profile.account.time_zone):
            return profile
        return replace(profile, time_zone="", account=replace(profile.account, time_zone=""))


def is_switched_on(switches: Iterable[str], handler: str) -> bool:
    """Return whether a handler runs, by the `handlers` of a profile."""
    named = {name for name in switches if not name.startswith("-")}
    return f"-{handler}" not in switches and (not named or handler in named)


def is_time_zone(text: str) -> bool:
    """Return whether a text is empty or the name of a time zone that this machine knows."""
    try:
        ZoneInfo(text or _UTC)
    except (OSError, ValueError):  # ZoneInfoNotFoundError is a KeyError
        return False
    except KeyError:
        return False
    return True


def _text(value: object, longest: int) -> str:
    return value if isinstance(value, str) and len(value) <= longest and value.isprintable() else ""
