"""*Privacy*: what people have asked for, and until when. Rule: it shows; erasing is done where HubSpot's token is."""

from aiohttp import web

from spokes.console.accounts.actors import ACTOR
from spokes.console.accounts.policy import Permission, requires
from spokes.console.queries.privacy_requests import list_privacy_requests
from spokes.console.web.app_keys import ENGINE
from spokes.console.web.rendering import render


@requires(Permission.PRIVACY)
async def page(request: web.Request) -> web.Response:
    """Show the requests, the most urgent first, and those that are done after them."""
    found = await list_privacy_requests(request.app[ENGINE], request[ACTOR].portals)
    open_, done = ([asked for asked in found if (asked.due_in_days is None) is is_done] for is_done in (False, True))
    done.sort(key=lambda asked: -(asked.request.done_at or 0))
    return render(request, "privacy.html", open=open_, done=done[:100], older=len(done[100:]))
