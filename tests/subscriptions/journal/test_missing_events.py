"""spokes.subscriptions.journal.missing_events: what a subscription lacks, and since when at the earliest."""

from spokes.subscriptions.journal.api import RemoteJournalSubscription
from spokes.subscriptions.journal.contents import Content, Subject
from spokes.subscriptions.journal.ledger import JournalLedgerEntry, Pending
from spokes.subscriptions.journal.missing_events import AwaitedEvents, missing_events
from spokes.subscriptions.journal.plan import Put
from spokes.subscriptions.subscribed_events import parse_event

SUBJECT = Subject("OBJECT", 7, "0-1")
CREATED, CHANGED = "contact.creation", "contact.propertyChange:email"
EVENTS = [parse_event(name) for name in (CREATED, CHANGED, "deal.creation")]
WANTED = Content(frozenset({"CREATE", "UPDATE"}), frozenset({"email"}))
AWAITED = AwaitedEvents({CREATED: 100, CHANGED: 200, "deal.creation": 300}, {7: 150}, frozenset(), {})


def missing(
    held: Content | None,
    entry: JournalLedgerEntry | None = None,
    awaited: AwaitedEvents = AWAITED,
    *,
    some: bool = False,
) -> dict[str, int]:
    remote = held and RemoteJournalSubscription(1, SUBJECT, 7, held, some, has_overrides=False)
    return dict(
        missing_events(
            Put(SUBJECT, WANTED, remote or None, entry or JournalLedgerEntry(WANTED)), entry, EVENTS, awaited
        )
    )


def test_events_of_other_subscriptions_are_not_missing() -> None:
    assert missing(None) == {CREATED: 150, CHANGED: 200}


def test_what_the_subscription_holds_is_not_missing() -> None:
    assert missing(Content(frozenset({"UPDATE"}), frozenset({"email"}))) == {CREATED: 150}
    assert missing(Content(frozenset({"CREATE", "UPDATE"}), frozenset({"*"}))) == {}


def test_subscription_for_some_objects_holds_nothing_for_sure() -> None:
    assert missing(WANTED, some=True) == {CREATED: 150, CHANGED: 200}


def test_events_that_hubspot_pushes_are_not_missing() -> None:
    awaited = AwaitedEvents(AWAITED.registered_at, {}, {CREATED}, {CHANGED: 900})
    assert missing(None, awaited=awaited) == {CHANGED: 900}


def test_events_are_missing_since_our_last_confirmed_change_at_the_earliest() -> None:
    assert missing(None, JournalLedgerEntry(WANTED, changed_at=500)) == {CREATED: 500, CHANGED: 500}
    assert missing(None, JournalLedgerEntry(WANTED, pending=Pending(WANTED), changed_at=500)) == {
        CREATED: 150, CHANGED: 200,
    }  # fmt: skip


def test_events_that_no_worker_has_awaited_are_not_missing() -> None:
    assert missing(None, awaited=AwaitedEvents({}, {}, frozenset(), {})) == {}
