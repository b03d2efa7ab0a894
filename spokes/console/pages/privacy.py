"""*Privacy*: requests and their due dates, read-only: only workers and the command line erase."""

from aiohttp import web

from spokes.console.accounts.actors import ACTOR
from spokes.console.accounts.policy import Permission, requires
from spokes.console.queries.privacy_requests import list_privacy_requests
from spokes.console.web.app_keys import ENGINE
from spokes.console.web.rendering import render


@requires(Permission.PRIVACY)
async def page(request: web.Request) -> web.Response:
    """Show the open requests, most urgent first, then the completed ones."""
    requests = await list_privacy_requests(request.app[ENGINE], request[ACTOR].portals)
    open_, done = ([view for view in requests if (view.due_in_days is None) is is_done] for is_done in (False, True))
    done.sort(key=lambda view: -(view.request.done_at or 0))
    return render(request, "privacy.html", open=open_, done=done[:100], older=len(done[100:]))
