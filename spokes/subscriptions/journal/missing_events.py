"""Which events of the journal a portal has missed, and since when, because its subscription did not hold them. Pure."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from spokes.subscriptions.journal.contents import Content, is_held, subscription_for
from spokes.subscriptions.journal.contents import gap as gap_of
from spokes.subscriptions.journal.ledger import JournalLedgerEntry
from spokes.subscriptions.journal.plan import Put
from spokes.subscriptions.subscribed_events import SubscribedEvent


@dataclass(frozen=True, slots=True)
class AwaitedEvents:
    """Since when events have been awaited. Times are epoch ms.

    Attributes:
        registered_at: when a worker first had each registration; without one that no worker has had.
        installed_at: when each portal installed the app; without a portal that has not.
        pushed: registrations whose events HubSpot pushes, of all portals: the journal need not bring them.
        pushed_at: when the newest event of each registration was pushed.
    """

    registered_at: Mapping[str, int]
    installed_at: Mapping[int, int]
    pushed: Collection[str]
    pushed_at: Mapping[str, int]


def missing_events(
    put: Put, entry: JournalLedgerEntry | None, events: Collection[SubscribedEvent], awaited: AwaitedEvents
) -> Iterator[tuple[str, int]]:
    """Yield the registrations that a subscription lacks, and since when: at the latest since our last change of it.

    Args:
        put: the change that adds them.
        entry: of the ledger.
        events: that the handlers register for.
        awaited: the times.
    """
    held = put.remote.content if put.remote and not put.remote.is_restricted else Content()
    for event in events:
        name, portal_id = str(event), put.subject.portal_id
        if gap_of(event) or name in awaited.pushed or name not in awaited.registered_at:
            continue
        subject, content = subscription_for(event, portal_id)
        if subject == put.subject and not is_held(content, held):
            is_confirmed = entry is not None and entry.pending is None and is_held(content, entry.ours)
            yield (
                name,
                max(
                    awaited.registered_at[name],
                    awaited.installed_at.get(portal_id, 0),
                    awaited.pushed_at.get(name, 0),
                    entry.changed_at if entry is not None and is_confirmed else 0,
                ),
            )
