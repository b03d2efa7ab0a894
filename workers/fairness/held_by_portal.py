"""What a worker holds of each portal: jobs, and their events as estimated at the claim."""

from workers.fairness.portal_share import portal_share


class HeldByPortal:
    """Counts of held jobs and events, by portal; a portal without held jobs takes no memory."""

    def __init__(self) -> None:
        self._held: dict[str, list[int]] = {}

    def add(self, job_id: str, events: int) -> str:
        """Count a claimed job with this number of events; return what `remove` is called with."""
        portal = _portal_of(job_id)
        held = self._held.get(portal)
        if held is None:
            held = self._held[portal] = [0, 0]
        held[0] += 1
        held[1] += events
        return portal

    def remove(self, portal: str, events: int) -> None:
        """Count a job no longer, for which `add` returned `portal`, with the same number of events."""
        held = self._held[portal]
        held[0] -= 1
        held[1] -= events
        if not held[0]:
            del self._held[portal]

    def reserve(self, max_jobs: int, max_events: int) -> tuple[int, int, int, int]:
        """Return each portal's share of jobs and of events, and what may be claimed for portals below their share.

        The shares that are used now together stay within these limits; what is held beyond the shares does not count.
        """
        job_share, event_share = portal_share(max_jobs), portal_share(max_events)
        jobs = sum(min(held[0], job_share) for held in self._held.values())
        events = sum(min(held[1], event_share) for held in self._held.values())
        return job_share, event_share, max(0, max_jobs - jobs), max(0, max_events - events)

    def __str__(self) -> str:
        """Return the counts as the claim script reads them."""
        return ",".join(f"{portal}:{jobs}:{events}" for portal, (jobs, events) in self._held.items() if portal)


def _portal_of(job_id: str) -> str:
    """Return the portal of a job, empty for an unknown job."""
    portal = job_id.partition("-")[0]
    return portal if portal.isdecimal() and portal.isascii() else ""
