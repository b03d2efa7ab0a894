"""The check before a write: values as HubSpot takes them, or an error before any call.

Phone numbers and e-mail addresses are put into their canonical forms. The reason of a refusal is the error's
`category`; `service` and `property_name` say where. The value itself is in no error.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from spokes.core.errors import InvalidRequest
from spokes.crm.object_types import plural, singular
from spokes.crm.values.canonical_forms import canonical_email, canonical_phone, email_domains
from spokes.crm.values.property_values import Value, property_text

EMAIL_INVALID: Final = "EMAIL_INVALID"
EMAIL_DOMAIN_BLOCKED: Final = "EMAIL_DOMAIN_BLOCKED"
PHONE_INVALID: Final = "PHONE_INVALID"

_EMAILS: Final[Mapping[str, frozenset[str]]] = {"contact": frozenset({"email", "work_email"})}
_PHONES: Final[Mapping[str, frozenset[str]]] = {
    "contact": frozenset({"phone", "mobilephone"}),
    "company": frozenset({"phone"}),
}


@dataclass(frozen=True, slots=True)
class ValidationRules:
    """A deployment's rules: blocked domains of e-mail addresses, and the country of numbers without a +.

    `blocked_email_domains` in lower case, subdomains included; `default_region` as ISO 3166 letters: `DE`.
    """

    blocked_email_domains: frozenset[str] = frozenset()
    default_region: str = "US"


def validate_properties(object_type: str, properties: Mapping[str, Value], rules: ValidationRules) -> dict[str, str]:
    """Return properties as HubSpot takes them: text, e-mail addresses in lower case, phone numbers in E.164.

    An empty value clears the property. A phone number with an extension stays as it is.

    Raises:
        InvalidRequest: `category` is EMAIL_INVALID, EMAIL_DOMAIN_BLOCKED, PHONE_INVALID or one of those of
            `spokes.crm.values.property_values`.
    """
    type_name = singular(object_type)
    emails, phones = _EMAILS.get(type_name, ()), _PHONES.get(type_name, ())
    texts: dict[str, str] = {}
    for name, value in properties.items():
        try:
            text = property_text(value)
            if text and name in emails:
                text = _validated_email(text, rules.blocked_email_domains)
            elif text and name in phones:
                text = _validated_phone(text, rules.default_region)
        except InvalidRequest as error:
            raise InvalidRequest(
                category=error.category, service=plural(object_type), property_name=str(name)
            ) from None
        texts[name] = text
    return texts


def _validated_email(text: str, blocked: frozenset[str]) -> str:
    address = canonical_email(text)
    if address is None:
        raise InvalidRequest(category=EMAIL_INVALID)
    if blocked and any(_is_blocked(domain, blocked) for domain in email_domains(address) or ()):
        raise InvalidRequest(category=EMAIL_DOMAIN_BLOCKED)
    return address


def _is_blocked(domain: str, blocked: frozenset[str]) -> bool:
    labels = domain.split(".")
    return any(".".join(labels[i:]) in blocked for i in range(len(labels)))


def _validated_phone(text: str, region: str) -> str:
    number = canonical_phone(text, region)
    if number is None:
        raise InvalidRequest(category=PHONE_INVALID)
    return number
