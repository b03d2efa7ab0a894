"""The plan of an applied plan is empty, and nothing of others is lost, whatever HubSpot and the ledger hold."""

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from spokes.subscriptions.journal.api import RemoteJournalSubscription
from spokes.subscriptions.journal.contents import EVERY, Content, Subject, content_of, request_body
from spokes.subscriptions.journal.ledger import JournalLedgerEntry, Pending
from spokes.subscriptions.journal.plan import JournalPlan, make_plan

PORTALS = (7, 8)
SUBJECTS = st.builds(
    Subject,
    st.sampled_from(["OBJECT", "ASSOCIATION", "GDPR_PRIVACY_DELETION"]),
    st.sampled_from(PORTALS),
    st.sampled_from(["0-1", "0-2", "2-99"]),
)
ACTIONS = st.frozensets(st.sampled_from(["CREATE", "UPDATE", "DELETE", "MERGE"]), min_size=1)
PROPERTIES = st.frozensets(st.sampled_from(["email", "phone", "amount"]), max_size=2)


@st.composite
def contents(draw: st.DrawFn) -> Content:
    """A content as handlers need it: properties only for updates, and then some or every one."""
    actions = draw(ACTIONS)
    if "UPDATE" not in actions:
        return Content(actions)
    return Content(actions, draw(PROPERTIES) or frozenset({EVERY}))


WANTED = st.dictionaries(SUBJECTS, contents(), max_size=5)
Remote = dict[Subject, tuple[Content, bool]]
REMOTE = st.dictionaries(SUBJECTS, st.tuples(contents(), st.booleans()), max_size=5)
PENDING = st.one_of(st.none(), st.builds(Pending, contents()))
LEDGER = st.dictionaries(SUBJECTS, st.builds(JournalLedgerEntry, contents(), st.just(frozenset()), PENDING), max_size=5)


def listed(remote: Remote) -> list[RemoteJournalSubscription]:
    return [
        RemoteJournalSubscription(number, subject, subject.portal_id, content, is_restricted)
        for number, (subject, (content, is_restricted)) in enumerate(sorted(remote.items()), 1)
    ]


def stored(subject: Subject, content: Content) -> Content:
    """Return a content as HubSpot shows it after a POST."""
    return content_of(request_body(subject, content))


def applied(
    plan: JournalPlan, remote: Remote, ledger: Mapping[Subject, JournalLedgerEntry]
) -> tuple[Remote, dict[Subject, JournalLedgerEntry]]:
    """Return what HubSpot and the ledger hold after a plan."""
    after, entries = dict(remote), {**ledger, **plan.adopt}
    for subject in plan.forget:
        entries.pop(subject, None)
    for put in plan.puts:
        after[put.subject] = stored(put.subject, put.content), False
        if put.is_wanted:
            entries[put.subject] = put.entry
        else:
            entries.pop(put.subject, None)
    for each in plan.deletions:
        assert each.subject is not None
        del after[each.subject]
        entries.pop(each.subject, None)
    return after, entries


@given(WANTED, REMOTE, LEDGER, st.booleans())
def test_plan_of_an_applied_plan_is_empty(
    wanted: dict[Subject, Content], remote: Remote, ledger: dict[Subject, JournalLedgerEntry], adopt: bool
) -> None:
    wanted = {subject: stored(subject, content) for subject, content in wanted.items()}
    remote = {subject: (stored(subject, content), flag) for subject, (content, flag) in remote.items()}
    plan = make_plan(wanted, listed(remote), ledger, PORTALS, adopt=adopt)
    after, entries = applied(plan, remote, ledger)
    assert make_plan(wanted, listed(after), entries, PORTALS, adopt=adopt).is_empty
    for subject, content in wanted.items():
        assert after[subject][0].actions >= content.actions
        assert content.properties <= after[subject][0].properties or EVERY in after[subject][0].properties


@given(WANTED, REMOTE)
def test_parts_of_others_stay_when_nothing_is_needed_any_more(wanted: dict[Subject, Content], remote: Remote) -> None:
    wanted = {subject: stored(subject, content) for subject, content in wanted.items()}
    remote = {subject: (stored(subject, content), False) for subject, (content, _) in remote.items()}
    after, entries = applied(make_plan(wanted, listed(remote), {}, PORTALS), remote, {})
    rest, left = applied(make_plan({}, listed(after), entries, PORTALS), after, entries)
    assert left == {}
    assert rest.keys() == remote.keys()
    for subject, (content, _) in remote.items():
        assert rest[subject][0].actions == content.actions


@given(WANTED, REMOTE, LEDGER)
def test_other_portals_keep_what_they_have(
    wanted: dict[Subject, Content], remote: Remote, ledger: dict[Subject, JournalLedgerEntry]
) -> None:
    mine = {subject: content for subject, content in wanted.items() if subject.portal_id == 7}
    plan = make_plan(mine, listed(remote), ledger, {7})
    touched = {put.subject for put in plan.puts} | {each.subject for each in plan.deletions} | {*plan.forget}
    assert {subject.portal_id for subject in touched if subject} <= {7}
