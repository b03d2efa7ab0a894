"""The first console login on a laptop: an account without password, and a one-time link."""

import getpass
from typing import Final

from spokes.audit.records import Action
from spokes.console.accounts.policy import Role
from spokes.console.accounts.seals import Seals
from spokes.console.accounts.users import NAME_PATTERN, Users
from spokes.console.operator_audit import operator_record
from spokes.console.operator_redis import operator_redis
from spokes.core.settings import Settings

_REASON: Final = "spokes up was started"


async def create_first_login(settings: Settings, seals: Seals) -> tuple[str, str]:
    """Create the account of an administrator if it is missing; return its name and the token of a login link.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    actor = getpass.getuser()
    name = actor if NAME_PATTERN.fullmatch(actor) else "admin"
    async with operator_redis(settings) as redis:
        users = Users(redis, seals)
        if await users.find(name) is None:
            detail = {"user": name, "roles": [Role.ADMIN.value], "portals": None}
            changed = operator_record(Action.USER_CHANGED, detail, actor=actor, reason=_REASON)
            await users.put(name, [Role.ADMIN], record=changed)
        link_made = operator_record(Action.LINK_MADE, {"user": name}, actor=actor, reason=_REASON)
        return name, await users.create_login_link(name, record=link_made)
