"""Keep contacts reachable: phone numbers in E.164, e-mail addresses in canonical form."""

from spokes import Event, Router, Tools, canonical_email, canonical_phone, uses

router = Router()


@router.register("contact.creation")
@router.register("contact.restore")
@router.register("contact.merge")
@router.register("contact.propertyChange", property="phone")
@router.register("contact.propertyChange", property="email")
@uses(reads={"contacts": ("phone", "email", "hs_country_region_code")}, may=("contacts.update",))
async def keep_reachable(event: Event, tools: Tools) -> None:
    """Write phone and e-mail back in canonical form where they differ; leave values alone that this would shorten.

    `tools.current_value` ensures that a person's change counts before our own earlier write.
    """
    contact = await tools.crm.contacts.get(event.survivor_id)
    region = contact["hs_country_region_code"] or tools.default_region
    canonical = {
        "phone": canonical_phone(await tools.current_value(contact, "phone"), region),
        "email": canonical_email(await tools.current_value(contact, "email")),
    }
    changes = {name: value for name, value in canonical.items() if value and value != contact[name]}
    if changes:
        await tools.crm.contacts.update(event.survivor_id, changes)
