"""Keep company domains in one form, so that HubSpot can match companies by them."""

from core.events import Event
from crm.validation import canonical_domain
from handlers.routing import Router, uses
from handlers.tools import Tools

router = Router()


@router.register("company.creation")
@router.register("company.restore")
@router.register("company.merge")
@router.register("company.propertyChange", property="domain")
@uses(reads={"companies": ("domain",)}, may=("companies.update",))
async def keep_domain_canonical(event: Event, tools: Tools) -> None:
    """Write `https://www.Example.com/about` back as `example.com`; what is no domain is left alone.

    The domain that the event tells counts before the one that is there: see contacts.keep_reachable.
    """
    company = await tools.crm.companies.get(event.survivor_id)
    told = event.property_value if company.id == event.survivor_id else None
    domain = canonical_domain(told or company["domain"])
    if domain and domain != company["domain"]:
        await tools.crm.companies.update(event.survivor_id, {"domain": domain})
