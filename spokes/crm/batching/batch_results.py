"""What a batch answer says of each input. Rule: pure, and it decides by the body, because statuses differ by version.

Source: HubSpot's docs, "Error handling" (partial failures); the 2026-09 specification answers them with 200.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from spokes.core.errors import CRMError, ObjectNotFound
from spokes.crm.transport.error_mapping import error_from_entry, ids_in_entry
from spokes.crm.transport.response_json import Json, elements


class BatchResults(NamedTuple):
    """By input id: the element found, the error told; and the inputs of which the answer says nothing certain."""

    found: Mapping[str, Json]
    failed: Mapping[str, CRMError]
    unknown: tuple[str, ...]


def match_results(
    ids: Iterable[str], body: Json, key: Callable[[Json], str], *, missing: CRMError | None = None
) -> BatchResults:
    """Sort a batch answer by input.

    Args:
        key: the input id that an element of `results` answers.
        missing: what an input without result and without error means; not found when None.

    An input without result and without error is missing; unless a result turned up that no
    input asked for, such as the survivor of a merge: then any missing input may be the one it answers.
    """
    asked = dict.fromkeys(ids)
    results = {key(item): item for item in elements(body, "results")}
    found = {i: results[i] for i in asked if i in results}
    refused: dict[str, CRMError] = {}
    nameless: list[CRMError] = []
    for entry in elements(body, "errors"):
        error = error_from_entry(entry)
        named = [i for i in ids_in_entry(entry) if i in asked and i not in found]
        refused |= dict.fromkeys(named, error)
        if not named:
            nameless.append(error)
    left = tuple(i for i in asked if i not in found and i not in refused)
    if len(results) > len(found):
        return BatchResults(found, refused, left)
    told = nameless[0] if nameless else missing or ObjectNotFound(status=404, category="OBJECT_NOT_FOUND")
    return BatchResults(found, refused | dict.fromkeys(left, told), ())
