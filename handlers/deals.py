"""When a deal is won, create one follow-up task for its owner."""

from spokes import Event, Record, Router, Tools, uses

SUBJECT = "Thank the customer and plan the hand-over"

router = Router()


@router.register("deal.creation")
@router.register("deal.propertyChange", property="dealstage")
@uses(
    reads={"deals": ("dealstage", "hs_is_closed_won", "hubspot_owner_id"), "tasks": ("hs_task_subject",)},
    may=("tasks.create", "associations.list"),
)
async def follow_up_when_won(event: Event, tools: Tools) -> None:
    """Create the task if the deal is closed-won; a deal that is won twice gets one task."""
    deal = await tools.crm.deals.get(event.object_id)
    if not is_won(deal):
        return

    async def create() -> str:
        properties = {
            "hs_task_subject": SUBJECT,
            "hs_task_status": "NOT_STARTED",
            "hs_task_type": "TODO",
            "hubspot_owner_id": deal["hubspot_owner_id"],
        }
        return await tools.crm.tasks.create(properties, to={"deal": (event.object_id,)})

    async def find() -> str | None:
        for task_id in await tools.crm.associations.list("deals", event.object_id, "tasks"):
            if (await tools.crm.tasks.get(task_id))["hs_task_subject"] == SUBJECT:
                return task_id
        return None

    await tools.once("won-follow-up", create, find=find)


def is_won(deal: Record) -> bool:
    """Return whether the deal is won: by HubSpot's flag, or by the default pipeline's stage before the flag is set."""
    return deal["hs_is_closed_won"] == "true" or deal["dealstage"] == "closedwon"
