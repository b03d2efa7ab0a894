"""When a ticket closes, create one note on its contacts."""

from spokes import Event, ObjectNotFound, Record, RetryLater, Router, Tools, uses

CLOSED = "4"  # the last stage of HubSpot's default support pipeline
BODY = "Support ticket {id} was closed."

router = Router()


@router.register("ticket.propertyChange", property="hs_pipeline_stage")
@uses(
    reads={"tickets": ("hs_pipeline_stage", "closed_date"), "notes": ("hs_note_body",)},
    may=("notes.create", "associations.list"),
)
async def note_when_closed(event: Event, tools: Tools) -> None:
    """Create one note on all contacts of the ticket; a ticket that closes twice gets one note.

    The note is guarded per ticket, not per contact, because a merge changes a contact's id.
    """
    ticket = await tools.crm.tickets.get(event.object_id)
    if not is_closed(ticket):
        return
    body = BODY.format(id=event.object_id)
    contacts = await tools.crm.associations.list("tickets", event.object_id, "contacts")

    async def create() -> str:
        return await tools.crm.notes.create({"hs_note_body": body}, to={"contact": contacts})

    async def find() -> str | None:
        for contact_id in contacts:
            for note_id in await tools.crm.associations.list("contacts", contact_id, "notes"):
                if (await tools.crm.notes.get(note_id))["hs_note_body"] == body:
                    return note_id
        return None

    if not contacts:
        return
    try:
        await tools.once("closed-note", create, find=find)
    except ObjectNotFound as error:  # a contact was deleted or merged after it was listed; the next run lists again
        raise RetryLater from error


def is_closed(ticket: Record) -> bool:
    """Return whether the ticket is closed: by the date that HubSpot sets in every pipeline, or by the default stage."""
    return bool(ticket["closed_date"]) or ticket["hs_pipeline_stage"] == CLOSED
