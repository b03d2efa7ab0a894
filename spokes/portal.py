"""`EventPortal`, which handlers have as `tools.portal`, and `PortalSettings`, the settings of one's own per portal."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from spokes.core.errors import SpokesError
from spokes.core.settings.sentences import invalid_setting

_UTC: Final = ZoneInfo("UTC")
_MASK: Final = "***"


class PortalSettingsInvalid(SpokesError):
    """A setting of a handler's own is missing or invalid for a portal; the text names it without its value."""

    reason = "portal_settings"


class PortalSettings(BaseModel):
    """Settings of one's own that differ between portals: each field is a setting of that name.

    Define a class in a module of your handlers, and read it with `tools.portal.settings(MySettings)`. Operators set the
    values with `spokes portals set 50112233 --setting greeting=Hei`. A field without a default must be set for every
    portal. Values are stored sealed; repr shows none.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Yield the names of the fields: a value may be a secret, whatever its type."""
        yield from ((None, name) for name in type(self).model_fields)


_Settings = TypeVar("_Settings", bound=PortalSettings)


@dataclass(frozen=True, slots=True)
class EventPortal:
    """The portal of an event.

    `name` is the operator's, else the account's. `time_zone` and `currency` (ISO 4217) are the account's, unless an
    operator set others; UTC and the empty text while HubSpot has not said them. `region` is the country of phone
    numbers without a +.
    """

    id: int
    name: str = ""
    time_zone: ZoneInfo = _UTC
    currency: str = ""
    region: str = "US"
    _values: Mapping[str, str] = field(default_factory=dict, repr=False)

    def settings(self, cls: type[_Settings]) -> _Settings:
        """Return the portal's settings of one's own.

        Raises:
            PortalSettingsInvalid: one is missing or invalid. The event becomes a dead letter; set it, then replay.
        """
        try:
            return cls.model_validate_strings({n: v for n, v in self._values.items() if n in cls.model_fields})
        except ValidationError as error:
            sentences = settings_faults(cls, error, self._values)
            raise PortalSettingsInvalid(f"Portal {self.id}: {' '.join(sentences)}") from None


def portal_settings_classes(package: str) -> list[type[PortalSettings]]:
    """Return the classes of settings that a loaded package of handlers defines."""
    return [
        cls
        for cls in _subclasses(PortalSettings)
        if cls.__module__ == package or cls.__module__.startswith(f"{package}.")
    ]


def _subclasses(cls: type[PortalSettings]) -> Iterator[type[PortalSettings]]:
    for subclass in cls.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)


def settings_faults(cls: type[PortalSettings], error: ValidationError, values: Mapping[str, str]) -> list[str]:
    """Return a sentence for each fault, without values."""
    return [_sentence(cls, detail, values) for detail in error.errors(include_input=False, include_url=False)]


def _sentence(cls: type[PortalSettings], error: ErrorDetails, values: Mapping[str, str]) -> str:
    name = str(error["loc"][0]) if error["loc"] else ""
    if not name:
        return f"{cls.__name__}: {error['msg'].removeprefix('Value error, ')}"
    if error["type"] == "missing":
        description = cls.model_fields[name].description if name in cls.model_fields else ""
        return f"{name} is not set: {description or f'{cls.__name__} needs it'}."
    renamed: ErrorDetails = {**error, "loc": (name,)}
    sentence = invalid_setting(renamed, "")
    return sentence.replace(values[name], _MASK) if values.get(name) else sentence
