"""Errors of calls on CRM records that HubSpot reports by no status."""

from spokes.core.errors import PermanentCRMError


class CreationUnreadable(PermanentCRMError):
    """HubSpot answered a creation with 2xx, and its answer cannot be read or names no new object.

    The object may exist, so the creation is not repeated: HubSpot has no idempotency keys. `tools.once` with `find`
    searches for it when the dead letter is replayed.
    """

    reason = "creation_unreadable"
