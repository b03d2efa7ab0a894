"""Notes, tasks, calls and e-mails. Rule: every one has its `hs_timestamp`, and belongs to the records it is made for.

Source: HubSpot's docs on activities; their association types are in `association_types`.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from spokes.crm.objects import Objects, Properties

# HubSpot has no idempotency keys: an engagement that is made twice is two. `tools.once` guards a handler's.


class Engagements(Objects):
    """Notes, tasks, calls or e-mails of the timeline."""

    async def create(self, properties: Properties, *, to: Mapping[str, Iterable[str]] | None = None) -> str:
        """Make one and return its id.

        Args:
            properties: HubSpot's own, such as `hs_note_body`, `hs_task_subject`, `hs_call_title`, `hs_email_text`.
                `hs_timestamp` is now unless given; for a task it is when the task is due.
            to: contacts, companies, deals, tickets that it belongs to, ids by type: `{"contact": ("101",)}`.
        """
        stamp = datetime.now(UTC)
        return await super().create({"hs_timestamp": stamp, **properties}, to=to)
