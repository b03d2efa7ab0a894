"""Keep company domains in one form, so that HubSpot can match companies by them."""

from spokes.core.events import Event
from spokes.crm.validation import canonical_domain
from spokes.routing import Router, uses
from spokes.tools import Tools

router = Router()


@router.register("company.creation")
@router.register("company.restore")
@router.register("company.merge")
@router.register("company.propertyChange", property="domain")
@uses(reads={"companies": ("domain",)}, may=("companies.update",))
async def keep_domain_canonical(event: Event, tools: Tools) -> None:
    """Write `https://www.Example.com/about` back as `example.com`; what is no domain is left alone.

    What people have set counts, and not our own write on top of it: see tools.Standing.
    """
    company = await tools.crm.companies.get(event.survivor_id)
    domain = canonical_domain(await tools.current_value(company, "domain"))
    if domain and domain != company["domain"]:
        await tools.crm.companies.update(event.survivor_id, {"domain": domain})
