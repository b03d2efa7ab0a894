"""The way into the console of a laptop: an account and a link. Rule: no password, so only links let it in."""

import getpass
from typing import Final

from spokes.audit.records import Action
from spokes.console.accounts.policy import Role
from spokes.console.accounts.users import NAME_PATTERN, Users
from spokes.console.operator_audit import operator_record
from spokes.core.redis.connections import redis_client
from spokes.core.settings import Settings

_REASON: Final = "spokes up was started"


async def create_first_login(settings: Settings) -> tuple[str, str]:
    """Return the name of an account with all roles, which is made if need be, and the word of a link that opens it.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    actor = getpass.getuser()
    name = actor if NAME_PATTERN.fullmatch(actor) else "admin"
    async with redis_client(settings) as redis:
        users = Users(redis)
        if await users.find(name) is None:
            made = {"user": name, "roles": [Role.ADMIN.value], "portals": None}
            await users.put(
                name, [Role.ADMIN], record=operator_record(Action.USER_CHANGED, made, actor=actor, reason=_REASON)
            )
        return name, await users.create_login_link(
            name, record=operator_record(Action.LINK_MADE, {"user": name}, actor=actor, reason=_REASON)
        )
