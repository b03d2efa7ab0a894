"""Describe an audit record in one sentence for operators. Pure functions; names and counts only, no values."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Final

from spokes.audit.records import Action, Outcome
from spokes.console.queries.history.records import RecordView

REASON_TEXTS: Final[Mapping[str, str]] = {
    "rate_limited": "HubSpot's rate limit was reached (429)",
    "crm_unavailable": "HubSpot did not answer",
    "refused_by_proxy": "a firewall or proxy in front of HubSpot refused the call; the answer is not in HubSpot's form",
    "not_authorized": "HubSpot refused the access token",
    "not_permitted": "HubSpot did not permit the call, or the handler did not declare it",
    "object_not_found": "HubSpot did not find the record",
    "creation_unreadable": (
        "HubSpot's answer to a creation could not be read. The record may exist, so the creation was not repeated: "
        "look for the record in HubSpot before you replay the event"
    ),
    "object_locked": "HubSpot had locked the record",
    "object_merged": "the record was merged into another while it was processed",
    "portal_moving": "HubSpot is moving the portal",
    "redis_away": "Redis did not answer",
    "portal_paused": "the portal's work is paused",
    "calls_paused": "calls that the handler needs are paused",
    "object_busy": "another event of the object was being processed",
    "behind_another": "an earlier event of the object must be processed first",
    "record_merged_away": "the record was merged into another",
    "newer_change_applied": "a newer change of the same property was applied before",
    "newer_change_speaks_for_it": "a newer change of the same property was processed instead",
    "own_write": "it is the echo of our own write",
    "rewrite_loop": "our handlers and an automation keep overwriting each other's value",
    "no_handler": "no handler is registered for its type now",
    "handler_not_registered": "its handler is not registered for its type now: it was removed or renamed",
    "crash_loop": "its delivery crashed its worker repeatedly",
    "handler_timeout": "the handler took too long",
    "internal_error": "an error of Spokes itself stopped it",
    "interrupted": "a timer that another handler had left running interrupted it",
    "handler_paused": "an operator has paused its handler",
    "handler_limited": "the limits of its handler allowed no further run then",
    "http_error": "a call of tools.http failed",
    "http_not_sent": "a call of tools.http was not sent",
    "http_rate_limited": "a host refuses calls for now",
    "http_rate_reached": "the declared rate of a host allowed no further call then",
    "http_refusal": "a host refused a call",
    "http_transient": "a host could not answer a call",
    "http_unavailable": "a host failed or did not answer",
    "handler_stuck": "the handler took too long and did not end when it was cancelled",
    "portal_not_served": "the portal is not in PORTAL_IDS",
    "erased": "the data subject was erased",
    "association_ends": "an end of the association has no id",
    "body_not_a_batch": "the body is no list of events",
    "body_not_json": "the body is not JSON",
    "merge_ids": "an id of the merge is unreadable",
    "nested_too_deep": "it is nested too deep",
    "not_an_object": "the element is no JSON object",
    "not_json": "the element is not JSON",
    "object_id": "the object's id is unreadable",
    "object_type_id": "the object's type is unreadable",
    "occurred_at": "the time of the change is unreadable",
    "portal_id": "the portal is unreadable",
    "property_name": "the property's name is unreadable",
    "subscription_type": "the type of the event is unreadable",
    "unrecognised_entry": "the journal's entry is of a type that this version does not know",
    "unreadable_page": "a page of the journal has no readable entries",
    "unreadable_delivery": "a queued delivery, or an event of one, is unreadable",
}
_OUTCOME_TEXTS: Final[Mapping[str, str]] = {
    Outcome.PROCESSED: "Processed",
    Outcome.SUPERSEDED: "Not run",
    Outcome.COALESCED: "Not run",
    Outcome.ECHO: "Not run",
    Outcome.MERGED: "Not run",
    Outcome.DEAD: "Gave up: now a dead letter",
    Outcome.DISCARDED: "Discarded",
    Outcome.RETRIED: "Failed; will be retried",
    Outcome.PARKED: "Postponed without a spent attempt",
    Outcome.REPLAYED: "Replayed: queued again",
    Outcome.IGNORED: "Ignored",
    Outcome.DUPLICATE: "Dropped: the same event was admitted before",
    Outcome.QUARANTINED: "Quarantined: not a valid event",
}
_ACTION_TEXTS: Final[Mapping[str, str]] = {
    Action.PRIVACY_REQUESTED: "Erasure of a person was requested",
    Action.PRIVACY_EXPORTED: "The data held on a person was exported",
    Action.PRIVACY_ERASED: "The data held on the object was erased",
    Action.DEAD_REPLAYED: "Dead letters were replayed",
    Action.DEAD_DISCARDED: "Dead letters were discarded",
    Action.PORTAL_INSTALLED: "A customer installed the app in the portal",
    Action.PORTAL_UNINSTALLED: "The app was uninstalled from the portal",
    Action.PORTAL_ERASED: "Everything held on the portal was erased",
    Action.PORTAL_CHANGED: "The settings of the portal were changed",
    Action.VALUE_REVEALED: "The values of a dead letter were shown",
    Action.LOGGED_IN: "Logged in to the console",
    Action.LOGGED_OUT: "Logged out of the console",
    Action.SESSIONS_ENDED: "The sessions of an account were ended",
    Action.USER_CHANGED: "An account was created or changed",
    Action.USER_REMOVED: "An account was removed",
    Action.LINK_MADE: "A one-time login link was created",
    Action.TOKEN_MADE: "An API token was created",
    Action.TOKEN_REVOKED: "An API token was revoked",
    Action.INCIDENT_OPENED: "An incident was opened",
    Action.INCIDENT_NOTED: "A note was added to an incident",
    Action.INCIDENT_CLOSED: "An incident was closed",
    Action.INCIDENT_EXPORTED: "An incident was exported",
    Action.SUBSCRIPTION_CHANGED: "A subscription or the settings of the HubSpot app were changed",
    Action.OBJECT_MERGED: "Merged into another record",
    Action.RECONCILED: "A day of HubSpot's records was compared with the audit",
    Action.STREAM_UNREADABLE: "An entry of the audit stream was not a record",
    Action.RETENTION: "Expired records were purged",
    Action.ALERT_BEGAN: "An alert began",
    Action.ALERT_ENDED: "An alert ended",
}
_INTAKE_TEXTS: Final[Mapping[object, str]] = {
    "journal": "read from HubSpot's journal",
    "backfill": "made by a backfill",
    "replay": "replayed by an operator",
}


def describe(record: RecordView) -> str:
    """Return a sentence for the record, without a full stop."""
    match record.action:
        case Action.EVENT:
            return _describe_event(record)
        case Action.CRM_WRITE:
            return _describe_write(record)
        case Action.DELIVERY_RECEIVED:
            return _describe_delivery(record.detail)
        case Action.REQUESTS_REFUSED:
            return "Requests were refused: " + _format_counts(record.detail.get("reasons"))
        case Action.ALERT_BEGAN | Action.ALERT_ENDED:
            return f"{_ACTION_TEXTS[record.action]}: {explain_reason(record.reason)}"
        case _:
            text = _ACTION_TEXTS.get(record.action, record.action)
            if record.handler and record.action in {Action.PORTAL_PAUSED, Action.PORTAL_RESUMED}:
                text = f"{record.handler} was {record.action.rpartition('.')[2]}"
            return f"{text}: {record.reason}" if record.reason else text


def describe_as_json(record: RecordView) -> dict[str, object]:
    """Return the record as a JSON object: its sentence, then its fields without the empty ones."""
    fields = {name: value for name, value in asdict(record).items() if value not in ("", None)}
    return {"sentence": describe(record), **fields}


def explain_reason(reason: str) -> str:
    """Return a sentence for a reason; for a handler's exception it names the class."""
    kind, _, error = reason.partition(":")
    if kind == "handler_error" and error:
        return f"the handler raised {error}"
    return REASON_TEXTS.get(reason, reason.replace("_", " "))


def explain_failure(reason: str, failure: Mapping[str, object]) -> str:
    """Return a sentence for a reason with what is known of the error: what HubSpot said, and where it was raised."""
    text = explain_reason(reason)
    scopes, undeclared, name = failure.get("scopes"), failure.get("undeclared"), failure.get("property")
    if isinstance(undeclared, list):
        text = f"the handler did not declare {', '.join(map(str, undeclared))}"
    elif isinstance(scopes, list):
        text = f"the token lacks the scope {' or '.join(map(str, scopes))}"
    elif reason == "not_permitted":
        text = "HubSpot did not permit the call and named no missing scope"
    if reason.startswith("handler_error:") and name:
        text += f": {name}"
        name = None
    words = [str(failure[field]) for field in ("method", "host", "status", "category", "code") if failure.get(field)]
    if undeclared:
        words = []
    words += [f"property {name}"] if name else []
    words += [f"HubSpot's id {failure['correlation_id']}"] if failure.get("correlation_id") else []
    if words:
        text += f" ({', '.join(words)})"
    if failure.get("explanation"):
        text += f": {failure['explanation']}"
    return f"{text}, at {failure['error_at']}" if failure.get("error_at") else text


def _failure_of(detail: Mapping[str, object]) -> Mapping[str, object]:
    failure = detail.get("failure")
    return failure if isinstance(failure, dict) else {}


def _describe_event(record: RecordView) -> str:
    if record.actor not in {"", "spokes"}:
        text = _OUTCOME_TEXTS.get(record.outcome, record.outcome)
        return f"{text} by {record.actor}" + (f": {record.reason}" if record.reason else "")
    text = _OUTCOME_TEXTS.get(record.outcome, record.outcome or "An event")
    if record.reason:
        text = f"{text}: {explain_failure(record.reason, _failure_of(record.detail))}"
    if isinstance(names := record.detail.get("told"), list):
        text += f" ({', '.join(map(str, names))})"
    if record.outcome == Outcome.DUPLICATE:
        text += _describe_redelivery(record.detail)
    wait = record.detail.get("delay_s")
    if isinstance(wait, int | float) and record.outcome in {Outcome.RETRIED, Outcome.PARKED}:
        text += f"; next attempt after {wait:,.0f} s"
    if record.detail.get("merged"):
        text += "; received for a record that was merged into this one"
    if isinstance(names := record.detail.get("read"), list):
        text += f"; it read values that HubSpot withheld: {', '.join(map(str, names))}"
    text += _describe_intake(record.detail)
    if isinstance(calls := record.detail.get("http"), list):
        text += f"; calls: {', '.join(_describe_call(call) for call in calls if isinstance(call, dict))}"
    return text


def _describe_call(call: Mapping[str, object]) -> str:
    """Return a call of `tools.http` as `POST https://erp.example.com 201`."""
    return f"{call.get('method')} {call.get('host')} {call.get('status') or explain_reason(str(call.get('reason')))}"


def _describe_redelivery(detail: Mapping[str, object]) -> str:
    events, times = detail.get("events"), detail.get("times")
    text = f", with {events - 1:,} others of its request" if isinstance(events, int) and events > 1 else ""
    return text + (f"; sent again {times:,} times so far" if isinstance(times, int) else "")


def _describe_write(record: RecordView) -> str:
    names = record.detail.get("properties")
    text = str(record.detail.get("method", "a write"))
    if isinstance(names, list) and names:
        text += f" ({', '.join(map(str, names))})"
    if record.detail.get("ok") is False:
        return f"HubSpot refused {text}: {explain_failure(record.reason, _failure_of(record.detail))}"
    return f"Wrote to HubSpot: {text}"


def _describe_delivery(detail: Mapping[str, object]) -> str:
    parts = [f"{detail.get('admitted', 0)} admitted"]
    if detail.get("duplicate"):
        parts.append(f"{detail['duplicate']} duplicate")
    if ignored := detail.get("ignored"):
        parts.append(f"{_format_counts(ignored)} ignored: no handler is registered")
    if detail.get("set_aside"):
        parts.append(f"{detail['set_aside']} quarantined")
    requests = detail.get("requests")
    source = f" in {len(requests)} requests" if isinstance(requests, list) else ""
    source += _describe_intake(detail)
    return f"Received a delivery of {detail.get('received', 0)} events{source}: " + ", ".join(parts)


def _describe_intake(detail: Mapping[str, object]) -> str:
    text = _INTAKE_TEXTS.get(detail.get("intake"))
    return f", {text}" if text else ""


def _format_counts(counts: object) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) if isinstance(counts, dict) else "none"
