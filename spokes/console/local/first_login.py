"""The way into the console of a laptop: an account and a link. Rule: no password, so only links let it in."""

import getpass
from typing import Final

from spokes.audit.records import Action
from spokes.console.accounts.policy import Role
from spokes.console.accounts.users import NAME, Users
from spokes.console.operator_audit import act
from spokes.core.redis.connections import redis_client
from spokes.core.settings import Settings

_REASON: Final = "spokes up was started"


async def first_login(settings: Settings) -> tuple[str, str]:
    """Return the name of an account with all roles, which is made if need be, and the word of a link that opens it.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    actor = getpass.getuser()
    name = actor if NAME.fullmatch(actor) else "admin"
    async with redis_client(settings) as redis:
        users = Users(redis)
        if await users.find(name) is None:
            made = {"user": name, "roles": [Role.ADMIN.value], "portals": None}
            await users.put(name, [Role.ADMIN], told=act(Action.USER_CHANGED, made, actor=actor, reason=_REASON))
        return name, await users.link(name, told=act(Action.LINK_MADE, {"user": name}, actor=actor, reason=_REASON))
