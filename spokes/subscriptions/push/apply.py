"""Carry out a plan: settings, deletions, creations, one batch activation. The next apply continues an interrupted one.

Each attempt is in the ledger before its call, so a subscription whose answer was lost is recognised as ours.
"""

from http import HTTPStatus
from typing import Final

from spokes.subscriptions.applied_plan import AppliedPlan
from spokes.subscriptions.push.api import (
    PushApi,
    RemoteSubscription,
)
from spokes.subscriptions.push.ledger import PushLedger
from spokes.subscriptions.push.plan import PushPlan, is_of_attempt
from spokes.subscriptions.refusals import SubscriptionOutcomeUnknown, SubscriptionRefused
from spokes.subscriptions.subscribed_events import SubscribedEvent

_ATTEMPTS: Final = 3  # to create one subscription whose answers are lost
_FATAL: Final = frozenset(
    {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.TOO_MANY_REQUESTS}
)


async def apply_plan(plan: PushPlan, api: PushApi, ledger: PushLedger, result: AppliedPlan) -> None:
    """Carry out a plan; `result` gets what was done, also if an error ends it.

    Raises:
        SubscriptionRefused: HubSpot accepts no further call: wrong credentials, its rate limit, refused settings.
        SubscriptionOutcomeUnknown: HubSpot does not answer; run again to continue.
        AuditUnavailable: the ledger cannot be written; run again to continue.
    """
    await _Apply(api, ledger, result).run(plan)


class _Apply:
    def __init__(self, api: PushApi, ledger: PushLedger, result: AppliedPlan) -> None:
        self._api = api
        self._ledger = ledger
        self._result = result
        self._inactive: dict[int, str] = {}

    async def run(self, plan: PushPlan) -> None:
        if plan.settings is not None:
            await self._api.write_settings(plan.settings)
            settings = {
                "target_url": plan.settings.target_url,
                "max_concurrent_requests": plan.settings.max_concurrent_requests,
            }
            await self._ledger.record([{"change": "settings", **settings}])
            self._result.done.append(f"~ targetUrl {plan.settings.target_url}")
        if plan.forget:
            await self._ledger.forget(plan.forget)
        for change, subscriptions in (("recovered", plan.recover), ("adopted", plan.adopt)):
            for subscription in subscriptions:
                if subscription.event is not None:
                    await self._ledger.confirm(subscription.event, subscription.id, change)
                self._result.done.append(f"~ {subscription.name} {change}")
        for subscription in plan.delete:
            await self._delete(subscription)
        for number, event in enumerate(plan.create):
            if not await self._create(event):
                rest = len(plan.create) - number - 1
                self._result.failures += [f"{rest} more subscriptions were not tried."] if rest else []
                break
        self._inactive |= {subscription.id: subscription.name for subscription in plan.activate}
        await self._activate()

    async def _delete(self, subscription: RemoteSubscription) -> None:
        try:
            await self._api.delete(subscription.id)
        except SubscriptionRefused as error:
            if error.status in _FATAL:
                raise
            self._result.failures.append(f"{subscription.name}: {error}")
            return
        await self._ledger.forget([subscription.name], deleted_id=subscription.id)
        self._result.done.append(f"- {subscription.name}")

    async def _create(self, event: SubscribedEvent) -> bool:
        """Create a subscription; return whether to go on with the others."""
        for attempt in range(_ATTEMPTS):
            attempted_at = await self._ledger.begin(event)
            try:
                subscription = await self._api.create(event)
            except SubscriptionRefused as error:
                if error.status != HTTPStatus.CONFLICT:
                    return await self._give_up(event, error)
                await self._accept_foreign(event)
                return True
            except SubscriptionOutcomeUnknown:
                existing = await self._find(event)
                if existing is not None and is_of_attempt(existing, attempted_at):
                    await self._confirm(event, existing)
                    return True
                if attempt == _ATTEMPTS - 1:
                    raise
            else:
                await self._confirm(event, subscription)
                return True
        return True

    async def _accept_foreign(self, event: SubscribedEvent) -> None:
        """Leave a subscription alone that others created after the plan was made; activate it if needed."""
        await self._ledger.forget([str(event)])
        existing = await self._find(event)
        if existing is None:
            self._result.failures.append(f"{event}: HubSpot says that it exists, and does not list it.")
        elif not existing.is_active:
            self._inactive[existing.id] = str(event)

    async def _find(self, event: SubscribedEvent) -> RemoteSubscription | None:
        return next((each for each in await self._api.list_subscriptions() if each.event == event), None)

    async def _confirm(self, event: SubscribedEvent, subscription: RemoteSubscription) -> None:
        await self._ledger.confirm(event, subscription.id, "created")
        self._result.done.append(f"+ {event}")
        if subscription.is_active:
            self._result.begun.append(str(event))
        else:
            self._inactive[subscription.id] = str(event)

    async def _give_up(self, event: SubscribedEvent, error: SubscriptionRefused) -> bool:
        await self._ledger.forget([str(event)])
        if error.status in _FATAL:
            raise error
        self._result.failures.append(f"{event}: {error}")
        return "limit" not in str(error).lower()

    async def _activate(self) -> None:
        if not self._inactive:
            return
        confirmed = await self._api.activate(list(self._inactive))
        details = [
            {"change": "activated", "event": name, "subscription": id_}
            for id_, name in self._inactive.items()
            if id_ in confirmed
        ]
        if details:
            await self._ledger.record(details)
        for id_, name in self._inactive.items():
            if id_ in confirmed:
                self._result.done.append(f"~ {name} active")
                self._result.begun.append(name)
            else:
                self._result.failures.append(f"{name}: HubSpot did not activate the subscription {id_}.")
