"""Match the elements of a batch response with the inputs of the batch.

Only the body decides, because statuses differ by API version.
Source: HubSpot's docs, "Error handling" (partial failures); the 2026-09 specification answers them with 200.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from spokes.core.errors import CRMError, CRMUnavailable, ObjectNotFound, TransientCRMError
from spokes.crm.transport.errors.error_mapping import error_from_entry, ids_in_entry
from spokes.crm.transport.response_json import Json, elements


class BatchResults(NamedTuple):
    """By input id: its result, or its error; and the inputs about which the response says nothing certain."""

    found: Mapping[str, Json]
    failed: Mapping[str, CRMError]
    unknown: tuple[str, ...]


def match_results(
    ids: Iterable[str], body: Json, key: Callable[[Json], str], *, missing: CRMError | None = None
) -> BatchResults:
    """Return the result of each input of a batch.

    An input without result and error is missing. But if the response holds a result that matches no input, such as the
    survivor of a merge, that result may belong to any missing input: then they are unknown.

    Args:
        key: returns the input id that an element of `results` belongs to.
        missing: the error of a missing input; ObjectNotFound if None.
    """
    if missing is None and not isinstance(body.get("results"), list) and not elements(body, "errors"):
        missing = CRMUnavailable(status=503)  # no answer of HubSpot's has neither
    inputs = dict.fromkeys(ids)
    results = {key(item): item for item in elements(body, "results")}
    found = {i: results[i] for i in inputs if i in results}
    failed: dict[str, CRMError] = {}
    unassigned: list[CRMError] = []
    for entry in elements(body, "errors"):
        error = error_from_entry(entry, inputs)
        entry_ids = [i for i in ids_in_entry(entry) if i in inputs and i not in found]
        failed |= dict.fromkeys(entry_ids, error)
        if not entry_ids:
            unassigned.append(error)
    rest = tuple(i for i in inputs if i not in found and i not in failed)
    if len(results) > len(found):
        return BatchResults(found, failed, rest)
    unassigned.sort(key=lambda error: not isinstance(error, TransientCRMError))  # nothing that may succeed is given up
    rest_error = unassigned[0] if unassigned else missing or ObjectNotFound(status=404, category="OBJECT_NOT_FOUND")
    return BatchResults(found, failed | dict.fromkeys(rest, rest_error), ())
