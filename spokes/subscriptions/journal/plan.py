"""Compare the subscriptions that portals need with what HubSpot has: the fewest changes between them. Pure.

What others have put into a subscription stays in it; a subscription is deleted only if all of it is ours.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from spokes.subscriptions.journal.api import RemoteJournalSubscription
from spokes.subscriptions.journal.contents import Content, Subject, combined, is_same
from spokes.subscriptions.journal.filters import Filter, key_of
from spokes.subscriptions.journal.ledger import JournalLedgerEntry


@dataclass(frozen=True, slots=True)
class Put:
    """A subscription to create, or to change from what `remote` is; `entry` is that of the ledger after it."""

    subject: Subject
    content: Content
    remote: RemoteJournalSubscription | None
    entry: JournalLedgerEntry
    filters: tuple[Filter, ...] = ()  # to restore, of an interrupted replacement
    new_filters: tuple[Filter, ...] = ()  # for a subscription that is created
    is_wanted: bool = True  # otherwise what is left of it belongs to others


@dataclass(frozen=True, slots=True)
class FilterChange:
    """The filters of a subscription to create and, after these, the ids of those to delete."""

    subject: Subject
    subscription_id: int
    entry: JournalLedgerEntry
    create: tuple[Filter, ...]
    delete: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class JournalPlan:
    """What an apply does, in the order in which it does it.

    Attributes:
        puts: subscriptions to create or change.
        filters: filters to create and delete.
        deletions: subscriptions that are all ours, and that nothing needs.
        portals: portals of which all subscriptions are deleted with one call; they are in `deletions` too.
        forget: subjects in the ledger whose subscription is gone.
        adopt: subjects that are added to the ledger, with what of them is ours from now on.
        blocked: subscriptions of others that we cannot change without a loss.
        foreign: how many subscriptions there are of which nothing is ours.
    """

    puts: tuple[Put, ...] = ()
    filters: tuple[FilterChange, ...] = ()
    deletions: tuple[RemoteJournalSubscription, ...] = ()
    portals: tuple[int, ...] = ()
    forget: tuple[Subject, ...] = ()
    adopt: Mapping[Subject, JournalLedgerEntry] = field(default_factory=dict)
    blocked: tuple[Subject, ...] = ()
    foreign: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether HubSpot has all that the portals need, and the ledger all that is ours."""
        return not (self.puts or self.filters or self.deletions or self.forget or self.adopt)


def make_plan(
    wanted: Mapping[Subject, Content],
    remote: Sequence[RemoteJournalSubscription],
    ledger: Mapping[Subject, JournalLedgerEntry],
    portals: Collection[int],
    *,
    adopt: bool = False,
) -> JournalPlan:
    """Return the changes; filters are planned by `plan_filters`.

    Args:
        portals: the portals that may be changed; others keep what they have.
        adopt: add what the portals need and others created to the ledger.
    """
    by_subject = _by_subject(remote, ledger)
    puts: list[Put] = []
    blocked: list[Subject] = []
    adopted: dict[Subject, JournalLedgerEntry] = {}
    for subject, content in wanted.items():
        known, entry = by_subject.get(subject), ledger.get(subject)
        put = _put(subject, content, known, entry)
        if put is not None and known is not None and known.has_overrides:
            blocked.append(subject)
        elif put is not None:
            ours = put.entry.ours | content if adopt else put.entry.ours
            puts.append(replace(put, entry=replace(put.entry, ours=ours)))
        elif adopt and known is not None and (entry is None or content - entry.ours != Content()):
            entry = entry or JournalLedgerEntry(Content())
            adopted[subject] = replace(entry, ours=entry.ours | content)
    own = {subject: entry for subject, entry in ledger.items()
           if subject not in wanted and (subject.portal_id in portals or not subject.portal_id)}  # fmt: skip
    deletions = []
    for subject, entry in own.items():
        known = by_subject.get(subject)
        if known is None:
            continue
        rest = known.content - entry.ours
        if not rest:
            deletions.append(known)
        elif not is_same(rest, known.content):
            puts.append(Put(subject, rest, known, JournalLedgerEntry(Content()), is_wanted=False))
    return JournalPlan(
        puts=tuple(puts),
        deletions=tuple(deletions),
        portals=_whole_portals(deletions, remote, {subject.portal_id for subject in wanted}),
        forget=tuple(
            subject
            for subject, entry in own.items()
            if subject not in by_subject or not _holds_any(by_subject[subject].content, entry.ours)
        ),
        adopt=adopted,
        blocked=tuple(blocked),
        foreign=sum(each.subject not in wanted and each.subject not in ledger for each in remote),
    )


def plan_filters(
    wanted: Sequence[Filter],
    existing: Mapping[int, Filter],
    remote: RemoteJournalSubscription,
    entry: JournalLedgerEntry | None,
) -> FilterChange | None:
    """Return the changes of a subscription's filters, None without any. Filters of others stay."""
    entry = entry or JournalLedgerEntry(Content())
    keys = {key_of(each) for each in wanted}
    present = {key_of(each) for each in existing.values()}
    create = tuple(each for each in wanted if key_of(each) not in present)
    delete = tuple(id_ for id_, each in existing.items() if id_ in entry.filters and key_of(each) not in keys)
    if remote.subject is None or not (create or delete):
        return None
    return FilterChange(remote.subject, remote.id, entry, create, delete)


def subjects_with_filters(
    plan: JournalPlan,
    remote: Sequence[RemoteJournalSubscription],
    ledger: Mapping[Subject, JournalLedgerEntry],
    wanted: Mapping[Subject, Sequence[Filter]],
) -> list[RemoteJournalSubscription]:
    """Return the subscriptions whose filters must be read: those that exist, and for which filters are wanted."""
    deleted = {each.id for each in plan.deletions}
    known = _by_subject([each for each in remote if each.id not in deleted], ledger)
    return [known[subject] for subject in wanted if subject in known and subject not in plan.blocked]


def _holds_any(content: Content, ours: Content) -> bool:
    """Return whether anything of ours is in a subscription; one without actions is ours as a whole."""
    return not content or not is_same(content - ours, content)


def _put(
    subject: Subject, wanted: Content, known: RemoteJournalSubscription | None, entry: JournalLedgerEntry | None
) -> Put | None:
    """Return the change of a subscription that is needed, None if it holds all that is wanted and nothing else."""
    ours = entry.ours if entry else Content()
    pending = entry.pending if entry else None
    before = known.content if known else None
    if pending:
        before = (before or Content()) | pending.content
    content = combined(wanted, before, ours)
    is_right = known is not None and is_same(known.content, content) and not known.is_restricted and not pending
    if is_right:
        return None
    added = content - (before or Content())
    kept = Content(ours.actions & content.actions, ours.properties & content.properties)
    after = JournalLedgerEntry(added | kept, entry.filters if entry else frozenset())
    return Put(subject, content, known, after, pending.filters if pending else ())


def _by_subject(
    remote: Sequence[RemoteJournalSubscription], ledger: Mapping[Subject, JournalLedgerEntry]
) -> dict[Subject, RemoteJournalSubscription]:
    """Return one subscription for each subject: of several, one for all objects, and of these one that holds ours."""
    by_subject: dict[Subject, RemoteJournalSubscription] = {}
    for each in sorted(remote, key=lambda known: (known.is_restricted, not _holds_ours(known, ledger), known.id)):
        if each.subject is not None:
            by_subject.setdefault(each.subject, each)
    return by_subject


def _holds_ours(known: RemoteJournalSubscription, ledger: Mapping[Subject, JournalLedgerEntry]) -> bool:
    entry = ledger.get(known.subject) if known.subject else None
    if entry is None:
        return False
    ours = entry.pending.content if entry.pending else entry.ours
    return is_same(known.content | ours, known.content)


def _whole_portals(
    deletions: Sequence[RemoteJournalSubscription], remote: Sequence[RemoteJournalSubscription], needed: Collection[int]
) -> tuple[int, ...]:
    """Return the portals of which nothing stays, and whose subscriptions take more than one call to delete."""
    ids = {each.id for each in deletions}
    portals = {each.portal_id for each in deletions if each.portal_id} - {*needed}
    return tuple(
        portal_id
        for portal_id in sorted(portals)
        if sum(each.portal_id == portal_id for each in deletions) > 1
        and all(each.id in ids for each in remote if each.portal_id == portal_id)
    )
