"""Carry out a plan of journal subscriptions. The next apply continues an interrupted one.

HubSpot's sources disagree on a second POST: it may replace the fields, make a subscription with a new id in its place
or beside it, keep what there is, or be a conflict. Where it changes nothing, the subscription is deleted and created
again, with its filters; one that stays beside its successor is deleted.
"""

from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Final

from spokes.subscriptions.applied_plan import AppliedPlan
from spokes.subscriptions.journal.api import (
    JournalApi,
    RemoteJournalSubscription,
)
from spokes.subscriptions.journal.contents import OBJECT, Content, Subject, combined, is_same
from spokes.subscriptions.journal.filters import Filter, key_of
from spokes.subscriptions.journal.ledger import JournalLedger, JournalLedgerEntry, Pending
from spokes.subscriptions.journal.plan import FilterChange, JournalPlan, Put
from spokes.subscriptions.refusals import SubscriptionOutcomeUnknown, SubscriptionRefused

_FATAL: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS})


async def apply_plan(plan: JournalPlan, api: JournalApi, ledger: JournalLedger, result: AppliedPlan) -> None:
    """Carry out a plan; `result` gets what was done, also if an error ends it.

    Raises:
        SubscriptionRefused: HubSpot accepts no further call: wrong credentials, or its rate limit.
        SubscriptionOutcomeUnknown: HubSpot does not answer; run again to continue.
        AuditUnavailable: the ledger cannot be written; run again to continue.
    """
    work = _Apply(api, ledger, result)
    if plan.forget:
        await ledger.forget(plan.forget)
    for subject, entry in plan.adopt.items():
        await ledger.confirm(subject, entry, "adopted")
        result.done.append(f"~ {subject} adopted")
    for put in plan.puts:
        await work.attempt(put.subject, work.put(put))
    for change in plan.filters:
        await work.attempt(change.subject, work.change_filters(change))
    await work.delete(plan)


class _Apply:
    def __init__(self, api: JournalApi, ledger: JournalLedger, result: AppliedPlan) -> None:
        self._api = api
        self._ledger = ledger
        self._result = result
        self._stored: dict[Subject, tuple[int, JournalLedgerEntry]] = {}  # what this apply has put
        self._new_filters: dict[int, int] = {}  # ids of restored filters by the earlier ones

    async def attempt(self, subject: Subject, change: Awaitable[None]) -> None:
        """Await one change; a refusal is noted, and the others go on."""
        try:
            await change
        except SubscriptionRefused as error:
            if error.status in _FATAL:
                raise
            self._result.failures.append(f"{subject}: {error}")

    async def put(self, put: Put) -> None:
        """Create or change a subscription."""
        subject, content, remote, entry = put.subject, put.content, put.remote, put.entry
        existing = await self._filters_of(remote)
        kept = (*existing.values(), *put.filters)
        await self._ledger.begin(subject, replace(entry, pending=Pending(content, kept)))
        stored = await self._api.put(subject, content)
        if stored is None and remote is None:  # others have created it since the plan was made
            remote = await self._find(subject)
            if remote is not None:
                content = combined(content, remote.content, Content())
                entry = JournalLedgerEntry(content - remote.content)
                existing = await self._filters_of(remote)
                kept = tuple(existing.values())
                stored = remote
                await self._ledger.begin(subject, replace(entry, pending=Pending(content, kept)))
        if stored is None or stored.is_restricted or not is_same(stored.content, content):
            stored = await self._replace(subject, content, stored or remote)
        restored = await self._restore(stored.id, remote, existing, kept, is_again=bool(put.filters))
        self._new_filters |= restored
        if remote is not None and stored.id != remote.id:
            await self._api.delete(remote.id)  # HubSpot may keep it beside its successor
        ours = {restored.get(id_, id_) for id_ in entry.filters}
        if put.is_wanted and {*existing} - entry.filters:
            self._result.notices.append(
                f"{subject} has filters of others: creations and changes that none of them lets through do not come."
            )
        if remote is None:
            ours |= {await self._api.create_filter(stored.id, each) for each in put.new_filters}
        after = JournalLedgerEntry(entry.ours, frozenset(ours))
        if put.is_wanted:
            await self._ledger.confirm(subject, after, "changed" if remote else "created")
            self._result.begun.append(str(subject))
        else:
            await self._ledger.forget([subject], "changed")
        self._stored[subject] = stored.id, after
        self._result.done.append(f"{'~' if remote else '+'} {subject}")

    async def change_filters(self, change: FilterChange) -> None:
        """Create filters, then delete those that they replace."""
        subject = change.subject
        subscription_id, entry = self._stored.get(subject, (change.subscription_id, change.entry))
        ours = set(entry.filters)
        for each in change.create:
            ours.add(await self._api.create_filter(subscription_id, each))
            await self._ledger.confirm(subject, replace(entry, filters=frozenset(ours)), "filter created")
            self._result.done.append(f"+ filter of {subject}")
        for earlier_id in change.delete:
            id_ = self._new_filters.get(earlier_id, earlier_id)
            await self._api.delete_filter(id_)
            ours.discard(id_)
            await self._ledger.confirm(subject, replace(entry, filters=frozenset(ours)), "filter deleted")
            self._result.done.append(f"- filter of {subject}")

    async def delete(self, plan: JournalPlan) -> None:
        """Delete subscriptions: those of a whole portal with one call, or one by one if HubSpot refuses it."""
        for portal_id in plan.portals:
            try:
                await self._api.delete_portal(portal_id)
            except SubscriptionRefused as error:
                if error.status in _FATAL:
                    raise
                continue
            except SubscriptionOutcomeUnknown:
                continue
            await self._deleted([each for each in plan.deletions if each.portal_id == portal_id])
        deleted = {line.removeprefix("- ") for line in self._result.done if line.startswith("- ")}
        for each in plan.deletions:
            if each.subject is not None and str(each.subject) not in deleted:
                await self.attempt(each.subject, self._delete_one(each))

    async def _delete_one(self, subscription: RemoteJournalSubscription) -> None:
        await self._api.delete(subscription.id)
        await self._deleted([subscription])

    async def _deleted(self, subscriptions: Iterable[RemoteJournalSubscription]) -> None:
        subjects = [each.subject for each in subscriptions if each.subject is not None]
        await self._ledger.forget(subjects, "deleted")
        self._result.done += [f"- {subject}" for subject in subjects]

    async def _replace(
        self, subject: Subject, content: Content, existing: RemoteJournalSubscription | None
    ) -> RemoteJournalSubscription:
        """Delete a subscription and create it again; the ledger knows what it must hold."""
        existing = existing or await self._find(subject)
        if existing is not None:
            await self._api.delete(existing.id)
        stored = await self._api.put(subject, content)
        if stored is None or not is_same(stored.content, content):
            raise SubscriptionRefused(
                f"HubSpot does not store what was sent. Run the command again, or look at {subject} in HubSpot.",
                HTTPStatus.CONFLICT,
            )
        return stored

    async def _restore(
        self,
        stored_id: int,
        remote: RemoteJournalSubscription | None,
        existing: Mapping[int, Filter],
        filters: Iterable[Filter],
        *,
        is_again: bool,
    ) -> dict[int, int]:
        """Create the filters that a subscription lost when it was replaced; return the new ids by the earlier ones."""
        if remote is not None and stored_id == remote.id and not is_again:
            return {}
        filters = tuple(filters)
        if not filters:
            return {}
        present = {key_of(each): id_ for id_, each in (await self._api.filters(stored_id)).items()}
        for each in filters:
            if key_of(each) not in present:
                present[key_of(each)] = await self._api.create_filter(stored_id, each)
        return {id_: present[key_of(each)] for id_, each in existing.items()}

    async def _filters_of(self, subscription: RemoteJournalSubscription | None) -> dict[int, Filter]:
        """Return the filters of a subscription, which a replacement would lose."""
        if subscription is None or subscription.subject is None or subscription.subject.type != OBJECT:
            return {}
        return await self._api.filters(subscription.id)

    async def _find(self, subject: Subject) -> RemoteJournalSubscription | None:
        return next((each for each in await self._api.list_subscriptions() if each.subject == subject), None)
