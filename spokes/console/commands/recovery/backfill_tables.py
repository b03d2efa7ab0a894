"""How backfills are shown."""

from collections.abc import Iterable, Mapping

from spokes.backfill.run import BackfillResult
from spokes.backfill.store import Backfill
from spokes.console.output import format_utc, print_json, print_message, print_table

COLUMNS = (
    "Backfill",
    "Portal",
    "Records of",
    "From (UTC)",
    "To (UTC)",
    "State",
    "Read",
    "New events",
    "Known",
    "Calls",
)


def backfill_row(backfill: Backfill) -> tuple[object, ...]:
    """Return the row of one backfill."""
    state = f"{backfill.state} ({backfill.reason})" if backfill.reason else str(backfill.state)
    counts = backfill.counts
    return (
        backfill.id, backfill.portal_id, backfill.object_type, format_utc(backfill.since), format_utc(backfill.until),
        state, counts.records, counts.admitted, counts.known, sum(counts.calls.values()),
    )  # fmt: skip


def backfill_fields(backfill: Backfill) -> Mapping[str, object]:
    """Return a backfill for programs."""
    counts = backfill.counts
    return {
        "id": backfill.id, "portal_id": backfill.portal_id, "object_type": backfill.object_type,
        "since": backfill.since, "until": backfill.until, "properties": backfill.properties,
        "handler": backfill.handler, "state": backfill.state, "reason": backfill.reason,
        "started_at": backfill.started_at, "started_by": backfill.started_by, "changed_at": backfill.changed_at,
        "expected": counts.expected, "records": counts.records, "events": counts.events, "admitted": counts.admitted,
        "known": counts.known, "gone": counts.gone, "calls": counts.calls,
        "unproven": backfill.checkpoint.walk.unproven,
    }  # fmt: skip


def print_results(results: Iterable[BackfillResult], *, as_json: bool) -> None:
    """Print how backfills ended."""
    results = list(results)
    if as_json:
        print_json(
            *(dict(backfill_fields(each.backfill)) | {"gaps": [gap.id for gap in each.closed]} for each in results)
        )
        return
    print_table(COLUMNS, (backfill_row(each.backfill) for each in results))
    for each in results:
        if unproven := each.backfill.checkpoint.walk.unproven:
            print_message(
                f"Portal {each.backfill.portal_id}: HubSpot counts {unproven} records that its search did not show. "
                "No gap is closed. Run the command again in some minutes."
            )
        elif each.closed:
            print_message(f"Portal {each.backfill.portal_id}: {len(each.closed)} gaps are closed.")
