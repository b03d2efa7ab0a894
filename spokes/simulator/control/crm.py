"""Control endpoints for the CRM: its state, edits by users, the log of calls, limits, faults, the token.

Each function serves one path of `spokes.simulator.control`.
"""

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from aiohttp import web

from spokes.simulator.api.faults import Fault, FaultBody
from spokes.simulator.api.parameters import text_member
from spokes.simulator.api.properties import add_property
from spokes.simulator.config import Latency, Limits
from spokes.simulator.control.edits import apply_edit
from spokes.simulator.control.parameters import check_fields, requested_limit, requested_portal
from spokes.simulator.crm.records import full_record_json
from spokes.simulator.errors import JsonObject
from spokes.simulator.portal import TokenState

if TYPE_CHECKING:
    from spokes.simulator.app import Simulator


async def objects(sim: "Simulator", request: web.Request) -> object:
    """Every object of the CRM, archived ones included; ?type= filters."""
    crm = requested_portal(sim, request).crm
    type_id = crm.types.resolve(request.query["type"]).type_id if "type" in request.query else None
    records = [record for record in crm.all_records() if type_id in {None, record.type.type_id}]
    return [
        {"type": record.type.plural, "type_id": record.type.type_id, **full_record_json(record)} for record in records
    ]


async def associations(sim: "Simulator", request: web.Request) -> object:
    """Every association, in both directions."""
    dump = requested_portal(sim, request).crm.associations.all_associations()
    return [
        {"from": from_._asdict(), "to": to._asdict(), "types": [spec._asdict() for spec in specs]}
        for from_, to, specs in dump
    ]


async def edit(sim: "Simulator", request: web.Request) -> object:
    """Apply one edit by a user, or a list of edits (see spokes.simulator.control.edits)."""
    body, portal = await request.json(), requested_portal(sim, request)
    return [apply_edit(portal, edit) for edit in body] if isinstance(body, list) else apply_edit(portal, body)


async def create_property(sim: "Simulator", request: web.Request) -> object:
    """Add a property: {"object_type": "contacts", "name": "favourite_colour", "type": "string"}."""
    body, crm = await request.json(), requested_portal(sim, request).crm
    return add_property(crm.schema, crm.types.resolve(text_member(body, "object_type")), body)


async def requests(sim: "Simulator", request: web.Request) -> object:
    """The log of CRM calls; ?method= &path=(pattern) &status= &object_id= &limit= filter."""
    query = request.query
    status = int(query["status"]) if "status" in query else None
    calls = sim.requests.find(
        method=query.get("method"), path=query.get("path"), status=status, object_id=query.get("object_id")
    )
    return [call.as_json() for call in calls[-requested_limit(request) :]]


async def request_counts(sim: "Simulator", _request: web.Request) -> object:
    """The number of CRM calls by status."""
    return {str(status): count for status, count in sim.requests.by_status().items()}


async def limits(sim: "Simulator", request: web.Request) -> object:
    """The limits, and exact counts: arrivals, 429s, peaks in any window."""
    limiter = requested_portal(sim, request).limiter
    return {"limits": asdict(limiter.limits), "used_today": limiter.used_today(), "truth": limiter.counts.as_json()}


async def set_limits(sim: "Simulator", request: web.Request) -> object:
    """Change some limits: any fields of spokes.simulator.config.Limits."""
    limiter = requested_portal(sim, request).limiter
    limiter.limits = replace(limiter.limits, **check_fields(Limits, await request.json()))
    return asdict(limiter.limits)


async def faults(sim: "Simulator", _request: web.Request) -> object:
    """The active faults and the number of calls each has hit."""
    return [{**asdict(rule), "fault": _fault_json(rule.fault)} for rule in sim.faults.active]


async def add_fault(sim: "Simulator", request: web.Request) -> object:
    """Activate a fault: any fields of spokes.simulator.api.faults.Fault."""
    fields = check_fields(Fault, await request.json())
    fields["nth"] = frozenset(fields.get("nth", ()))
    fields["body"] = FaultBody(fields.get("body", FaultBody.HUBSPOT))
    fields["latency"] = Latency(**fields["latency"]) if fields.get("latency") else None
    return {"number": sim.faults.add(Fault(**fields))}


async def clear_faults(sim: "Simulator", request: web.Request) -> object:
    """Remove all faults, or the one of ?number=."""
    if "number" in request.query:
        sim.faults.remove(int(request.query["number"]))
    else:
        sim.faults.clear()
    return {"active": len(sim.faults.active)}


async def set_token(sim: "Simulator", request: web.Request) -> object:
    """Set the state of the token: {"state": "valid" | "revoked" | "expired"}; or replace it: {"token": "..."}."""
    portal = requested_portal(sim, request)
    body = await request.json()
    if "token" in body:
        sim.gateway.replace_token(portal, text_member(body, "token"))
    else:
        portal.token_state = TokenState(body["state"])
    return {"state": portal.token_state}


def _fault_json(fault: Fault) -> JsonObject:
    return {**asdict(fault), "nth": sorted(fault.nth)}
