"""Keep company domains in canonical form, so that HubSpot can match companies by domain."""

from spokes import Event, Router, Tools, canonical_domain, uses

router = Router()


@router.register("company.creation")
@router.register("company.restore")
@router.register("company.merge")
@router.register("company.propertyChange", property="domain")
@uses(reads={"companies": ("domain",)}, may=("companies.update",))
async def keep_domain_canonical(event: Event, tools: Tools) -> None:
    """Write `https://www.Example.com/about` back as `example.com`; leave text alone that is not a domain.

    `tools.current_value` ensures that a person's change counts before our own earlier write.
    """
    company = await tools.crm.companies.get(event.survivor_id)
    domain = canonical_domain(await tools.current_value(company, "domain"))
    if domain and domain != company["domain"]:
        await tools.crm.companies.update(event.survivor_id, {"domain": domain})
