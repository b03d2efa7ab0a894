"""Audit operator actions that belong to no event: logins, accounts, tokens. A record never holds a secret."""

from collections.abc import Mapping
from typing import Final

from spokes.audit.records import Action, AuditRecord

_NO_PORTAL: Final = 0


def operator_record(
    action: Action, detail: Mapping[str, object], *, actor: str, address: str = "", reason: str = ""
) -> AuditRecord:
    """Return the record of an operator action; `detail` holds names, ids and counts only."""
    full_detail = {**detail, **({"address": address} if address else {})}
    return AuditRecord(action=action, portal_id=_NO_PORTAL, actor=actor, reason=reason, detail=full_detail)
