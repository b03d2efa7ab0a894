"""Endpoints for token, account and API usage. They do not touch the CRM.

Source: HubSpot's docs "Account information API"; token info exists under a numbered path only.
"""

from datetime import datetime
from http import HTTPStatus
from zoneinfo import ZoneInfo

from spokes.simulator.api.call import Call, EndpointResponse
from spokes.simulator.crm.object_types import ANY_CUSTOM_TYPE, STANDARD_TYPES, required_scopes
from spokes.simulator.crm.records import iso


def token_info(call: Call) -> EndpointResponse:
    """POST access-token-info: the app, account and scopes of `tokenKey`."""
    config = call.portal.config
    scopes = config.scopes if config.scopes is not None else all_scopes()
    body = {"userId": 60718293, "hubId": config.portal_id, "appId": config.app_id, "scopes": sorted(scopes)}
    return EndpointResponse(HTTPStatus.OK, body)


def account_details(call: Call) -> EndpointResponse:
    """GET details: requires only the scope `oauth`, which every token has."""
    config = call.portal.config
    offset = datetime.fromtimestamp(call.log.at_ms / 1000, ZoneInfo(config.time_zone)).strftime("%z")
    body = {
        "portalId": config.portal_id,
        "accountType": "STANDARD",
        "timeZone": config.time_zone,
        "utcOffset": f"{offset[:3]}:{offset[3:]}",
        "uiDomain": "app.hubspot.com",
        "dataHostingLocation": "na1",
        "companyCurrency": "EUR",
        "additionalCurrencies": [],
    }
    return EndpointResponse(HTTPStatus.OK, body)


def daily_usage(call: Call) -> EndpointResponse:
    """GET api-usage/daily/private-apps: today's calls of all private apps."""
    limiter = call.portal.limiter
    usage = {
        "name": "private-apps-api-calls-daily",
        "usageLimit": limiter.limits.daily,
        "currentUsage": limiter.used_today(),
        "collectedAt": iso(call.log.at_ms),
        "fetchStatus": "SUCCESS",
        "resetsAt": iso(limiter.resets_at_ms()),
    }
    return EndpointResponse(HTTPStatus.OK, {"results": [usage]})


def all_scopes() -> set[str]:
    """Return every scope that a call on records may need."""
    types = (*STANDARD_TYPES, ANY_CUSTOM_TYPE)
    return {"oauth"}.union(*(required_scopes(type_, write=write) for type_ in types for write in (False, True)))
