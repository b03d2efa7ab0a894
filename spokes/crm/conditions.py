"""What a search looks for: `where("lifecyclestage").equals("lead") & where("phone").is_set()`. Rule: pure, no strings.

`&` and `|` join conditions; HubSpot takes an OR of ANDs, into which they are multiplied out.
Source: HubSpot's docs, "Search the CRM".
"""

from collections.abc import Iterable
from dataclasses import dataclass

from spokes.crm.validation import Value, property_text

Filter = dict[str, object]  # one element of `filters`, as HubSpot takes it


@dataclass(frozen=True, slots=True)
class Condition:
    """An OR of groups, each an AND of filters."""

    groups: tuple[tuple[Filter, ...], ...]

    def __and__(self, other: "Condition") -> "Condition":
        return Condition(tuple(one + another for one in self.groups for another in other.groups))

    def __or__(self, other: "Condition") -> "Condition":
        return Condition(self.groups + other.groups)


@dataclass(frozen=True, slots=True)
class where:  # noqa: N801 - reads as the word it is: where("email").is_set()
    """A property, about which a condition is made. Values go as a write would send them; moments as ISO 8601."""

    name: str

    def equals(self, value: Value) -> Condition:
        """It is `value`."""
        return self._is("EQ", value=property_text(value))

    def differs_from(self, value: Value) -> Condition:
        """It is not `value`, or unset."""
        return self._is("NEQ", value=property_text(value))

    def less_than(self, value: Value) -> Condition:
        """It is below, or before."""
        return self._is("LT", value=property_text(value))

    def at_most(self, value: Value) -> Condition:
        """It is not above, or not after."""
        return self._is("LTE", value=property_text(value))

    def more_than(self, value: Value) -> Condition:
        """It is above, or after."""
        return self._is("GT", value=property_text(value))

    def at_least(self, value: Value) -> Condition:
        """It is not below, or not before."""
        return self._is("GTE", value=property_text(value))

    def between(self, low: Value, high: Value) -> Condition:
        """It is neither below `low` nor above `high`."""
        return self._is("BETWEEN", value=property_text(low), highValue=property_text(high))

    def is_one_of(self, values: Iterable[Value]) -> Condition:
        """It is one of `values`."""
        return self._is("IN", values=_listed(values))

    def is_none_of(self, values: Iterable[Value]) -> Condition:
        """It is none of `values`."""
        return self._is("NOT_IN", values=_listed(values))

    def is_set(self) -> Condition:
        """It has a value."""
        return self._is("HAS_PROPERTY")

    def is_unset(self) -> Condition:
        """It has none."""
        return self._is("NOT_HAS_PROPERTY")

    def has_word(self, word: str) -> Condition:
        """One of its words is `word`; `*` stands for any letters: `*@example.org`."""
        return self._is("CONTAINS_TOKEN", value=word)

    def lacks_word(self, word: str) -> Condition:
        """None of its words is `word`."""
        return self._is("NOT_CONTAINS_TOKEN", value=word)

    def _is(self, operator: str, **operands: object) -> Condition:
        return Condition((({"propertyName": self.name, "operator": operator, **operands},),))


def _listed(values: Iterable[Value]) -> list[str]:
    """Values of a list: HubSpot compares texts in lower case there, and enumerations as they are; so both are given."""
    texts = [property_text(value) for value in values]
    return list(dict.fromkeys([*texts, *(text.lower() for text in texts)]))
