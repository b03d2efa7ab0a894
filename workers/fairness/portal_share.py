"""The share of a worker that each portal has, however much the others use. Pure.

The room of a worker and its tasks go to the portals with work. A portal that uses less than its share finds some even
if the others have filled all: for such portals together, a worker goes beyond the limit, by as much again.
"""

from typing import Final

_SHARE: Final = 16  # a portal's share is this part of the limit


def portal_share(limit: int) -> int:
    """Return what a portal may use of a limit although the limit is reached."""
    return max(1, limit // _SHARE)
