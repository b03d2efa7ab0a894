"""What is looked at before a write costs a call. Rule: pure; a value is put into HubSpot's form, or refused.

The reason stands in the error's `category` as one of the constants here; the value does not.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from spokes.core.errors import InvalidRequest
from spokes.crm.object_types import singular
from spokes.crm.validation import Value, canonical_email, e164, property_text

EMAIL_INVALID: Final = "EMAIL_INVALID"
EMAIL_DOMAIN_BLOCKED: Final = "EMAIL_DOMAIN_BLOCKED"
PHONE_INVALID: Final = "PHONE_INVALID"

_EMAILS: Final[Mapping[str, frozenset[str]]] = {"contact": frozenset({"email", "work_email"})}
_PHONES: Final[Mapping[str, frozenset[str]]] = {
    "contact": frozenset({"phone", "mobilephone"}),
    "company": frozenset({"phone"}),
}


@dataclass(frozen=True, slots=True)
class Rules:
    """What a deployment has decided: domains that no e-mail address may be of, and the country of bare numbers.

    `blocked_email_domains` are in lower case and stand for their subdomains too; `region` is ISO 3166: `DE`.
    """

    blocked_email_domains: frozenset[str] = frozenset()
    region: str = "US"


def checked(object_type: str, properties: Mapping[str, Value], rules: Rules) -> dict[str, str]:
    """Return properties as HubSpot takes them: text, addresses in lower case, numbers in E.164; empty clears.

    Raises:
        InvalidRequest: `category` is EMAIL_INVALID, EMAIL_DOMAIN_BLOCKED, PHONE_INVALID or VALUE_TOO_LONG.
    """
    kind = singular(object_type)
    texts = {name: property_text(value) for name, value in properties.items()}
    for name, text in texts.items():
        if not text:
            continue
        if name in _EMAILS.get(kind, ()):
            texts[name] = _email(text, rules.blocked_email_domains)
        elif name in _PHONES.get(kind, ()):
            texts[name] = _phone(text, rules.region)
    return texts


def _email(text: str, blocked: frozenset[str]) -> str:
    address = canonical_email(text)
    if address is None:
        raise InvalidRequest(category=EMAIL_INVALID)
    labels = address.rpartition("@")[2].split(".")
    if any(".".join(labels[i:]) in blocked for i in range(len(labels))):
        raise InvalidRequest(category=EMAIL_DOMAIN_BLOCKED)
    return address


def _phone(text: str, region: str) -> str:
    number = e164(text, region)
    if number is None:
        raise InvalidRequest(category=PHONE_INVALID)
    return number
