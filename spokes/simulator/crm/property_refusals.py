"""HubSpot's reasons for refusing a property's value, and where each is known from.

`RECORDED`: the code and the message are in an answer of HubSpot that is public, named in
tests/simulator/api/recorded_answers.json. `DOCUMENTED`: HubSpot's documentation describes the rule, the wording is
ours. `ASSUMED`: no published answer shows it, so code and wording are ours.
"""

from enum import Enum, StrEnum, unique

from spokes.simulator.errors import PropertyFinding


@unique
class Basis(StrEnum):
    """How well an answer is known."""

    RECORDED = "recorded"
    DOCUMENTED = "documented"
    ASSUMED = "assumed"


@unique
class PropertyRefusal(Enum):
    """One reason: HubSpot's code, the message with placeholders, and its basis."""

    UNKNOWN = ("PROPERTY_DOESNT_EXIST", 'Property "{name}" does not exist', Basis.RECORDED)
    READ_ONLY = ("READ_ONLY_VALUE", '"{name}" is a read only property; its value cannot be set.', Basis.RECORDED)
    OPTION = ("INVALID_OPTION", "{value} was not one of the allowed options: [{options}]", Basis.RECORDED)
    OWNER = ("INVALID_INTEGER", "{value} was not a valid integer (for owner ID).", Basis.RECORDED)
    TIME = ("INVALID_LONG", "{value} was not a valid long.", Basis.RECORDED)
    MIDNIGHT = ("INVALID_DATE", "{value} is at {time} UTC, not midnight!", Basis.RECORDED)
    NUMBER = ("INVALID_INTEGER", "{value} was not a valid number.", Basis.DOCUMENTED)
    EMAIL = ("INVALID_EMAIL", "Email address {value} is invalid", Basis.RECORDED)
    LENGTH = ("VALUE_TOO_LONG", 'The value of property "{name}" is longer than {limit} characters', Basis.ASSUMED)
    REQUIRED = ("MISSING_REQUIRED_PROPERTY", 'Property "{name}" is required', Basis.ASSUMED)

    def finding(self, name: str, **details: object) -> PropertyFinding:
        """Return this refusal of one property."""
        code, message, _ = self.value
        return PropertyFinding(code, message.format(name=name, **details), name)
