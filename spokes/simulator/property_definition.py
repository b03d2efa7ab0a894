"""A property of an object type, as an account defines it: a plain value."""

from typing import Final, NamedTuple

KINDS: Final = ("string", "number", "date", "datetime", "bool", "enumeration", "phone_number")
OWNER: Final = "owner"  # the id of a user; HubSpot lists it as an enumeration whose options are the account's owners


class PropertyDefinition(NamedTuple):
    """Kind (one of KINDS), options of an enumeration, and HubSpot's `readOnlyValue` and `hasUniqueValue`.

    A `multiple` enumeration is a checkbox property: its value may join several options by semicolons.
    """

    kind: str = "string"
    options: tuple[str, ...] = ()
    read_only: bool = False
    unique: bool = False
    multiple: bool = True
