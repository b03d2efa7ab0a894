"""Notes, tasks, calls and e-mails of the timeline. Each gets an `hs_timestamp`.

HubSpot has no idempotency keys: an engagement that is created twice is two. `tools.once` guards a handler's.
Source: HubSpot's docs on activities.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from spokes.crm.objects import Objects, Properties


class Engagements(Objects):
    """Notes, tasks, calls or e-mails."""

    async def create(self, properties: Properties, *, to: Mapping[str, Iterable[str]] | None = None) -> str:
        """Create an engagement and return its id.

        Args:
            properties: HubSpot's own, such as `hs_note_body`, `hs_task_subject`, `hs_call_title`, `hs_email_text`.
                `hs_timestamp` is now unless given; for a task it is when the task is due.
            to: contacts, companies, deals, tickets to associate it with, ids by type: `{"contact": ("101",)}`.
        """
        return await super().create(properties, to=to)

    async def _create(self, properties: Properties, to: Mapping[str, Iterable[str]] | None) -> str:
        return await super()._create({"hs_timestamp": datetime.now(UTC), **properties}, to)
