"""Keep contacts reachable: phone numbers in E.164, e-mail addresses in their canonical form."""

from core.events import Event
from crm.validation import canonical_email, e164
from handlers.routing import Router, uses
from handlers.tools import Tools

router = Router()


@router.register("contact.creation")
@router.register("contact.restore")
@router.register("contact.merge")
@router.register("contact.propertyChange", property="phone")
@router.register("contact.propertyChange", property="email")
@uses(reads={"contacts": ("phone", "email", "hs_country_region_code")}, may=("contacts.update",))
async def keep_reachable(event: Event, tools: Tools) -> None:
    """Write phone and e-mail back in canonical form, where they differ; what cannot be read is left alone.

    What a person has set counts, not what is there now: between our reading and our writing a moment ago they may have
    changed it, and HubSpot has no way to write only where nothing changed. A record that was merged away, which HubSpot
    answers by its survivor, lost what was set on it.
    """
    contact = await tools.crm.contacts.get(event.survivor_id)
    region = contact["hs_country_region_code"] or tools.region
    told = {event.property_name: event.property_value or ""} if contact.id == event.survivor_id else {}
    canonical = {
        "phone": e164(told.get("phone") or contact["phone"], region),
        "email": canonical_email(told.get("email") or contact["email"]),
    }
    changes = {name: value for name, value in canonical.items() if value and value != contact[name]}
    if changes:
        await tools.crm.contacts.update(event.survivor_id, changes)
