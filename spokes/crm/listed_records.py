"""Read the records of a page of ids: for handlers that declare more properties than a URL or a search holds."""

from collections.abc import Sequence

from spokes.core.errors import ObjectNotFound
from spokes.crm.access import HandlerAccess
from spokes.crm.object_types import plural
from spokes.crm.records import Record, parse_record
from spokes.crm.results import gather_results

ID_ONLY = ("hs_object_id",)


async def read_listed(access: HandlerAccess, listed: Sequence[Record], names: tuple[str, ...]) -> list[Record]:
    """Return the records of a page with all their properties, read in batches.

    Records that were archived or merged since the page was listed are left out.

    Raises:
        CRMError: a read failed.
    """
    if not listed:
        return []
    object_type = listed[0].type
    queue = access.queues.reads(access.portal_id, plural(object_type))
    results = await gather_results((r.id, queue.get(r.id, names, access.context.priority)) for r in listed)
    for result in results.failed:
        if result.error and not isinstance(result.error, ObjectNotFound):
            raise result.error
    records = (parse_record(item.result, object_type, names) for item in results if item.result)
    ids = {record.id for record in listed}
    return [record for record in records if record.id in ids]
