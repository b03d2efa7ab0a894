"""Stylesheet, script and icon: a fixed list, read at import, so that no path can name another file."""

import hashlib
from importlib.resources import files
from typing import Final

from aiohttp import web

from spokes.console.accounts.policy import PublicAccess, requires
from spokes.core.errors import HttpProblem

_CONTENT_TYPES: Final = {"console.css": "text/css", "live.js": "text/javascript", "icon.svg": "image/svg+xml"}
_FILES: Final = {name: (files(__package__) / "static" / name).read_bytes() for name in _CONTENT_TYPES}
_ETAGS: Final = {name: hashlib.sha256(data).hexdigest()[:16] for name, data in _FILES.items()}


@requires(PublicAccess.ANYONE)
async def asset(request: web.Request) -> web.Response:
    """Return an asset; 304 if the browser has it."""
    name = request.match_info["name"]
    if name not in _FILES:
        raise HttpProblem(404, "not_found", "There is nothing at this address.")
    headers = {"Cache-Control": "no-cache", "ETag": f'"{_ETAGS[name]}"'}
    if _ETAGS[name] in {tag.value for tag in request.if_none_match or ()}:
        return web.Response(status=304, headers=headers)
    return web.Response(body=_FILES[name], content_type=_CONTENT_TYPES[name], charset="utf-8", headers=headers)
