"""CRM: one for each process, and of it the restricted view that a handler gets. Rule: it assembles, others act."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from redis.asyncio import Redis

from spokes.core.masking import derive_key
from spokes.core.settings import Settings
from spokes.crm.access import HandlerAccess, WriteRecord
from spokes.crm.associations import Associations
from spokes.crm.batching.registry import BatchQueues
from spokes.crm.engagements import Engagements
from spokes.crm.object_types import plural
from spokes.crm.objects import Objects
from spokes.crm.own_writes import OwnWriteLedger
from spokes.crm.privacy import Privacy
from spokes.crm.transport.paced_client import ApiRequest, PacedClient, SendCheck, no_check
from spokes.crm.transport.paths import Paths
from spokes.crm.transport.rate_budget import Priority, RateBudget
from spokes.crm.transport.token_info import TokenInfo, token_info
from spokes.crm.validation import ValidationRules

if TYPE_CHECKING:
    from spokes.crm.transport.client import HubSpotClient

__all__ = ["CRM", "Services", "TokenInfo", "WriteRecord"]

_MAX_CONCURRENT_CALLS: Final = 32  # calls under way in one process; a limit of 250 in 10 s needs 3 at 100 ms
_LEASE_GRACE_S: Final = 5.0  # beyond the time-out of a call, until the place of a process that died comes back


class Services:
    """What one handler may use of HubSpot; anything it did not declare is NotPermitted before any call."""

    def __init__(self, access: HandlerAccess) -> None:
        self._access = access

    def objects(self, object_type: str) -> Objects:
        """Objects of any type, by name or id: `2-123`."""
        return Objects(self._access, object_type)

    @property
    def contacts(self) -> Objects:
        """Contacts."""
        return self.objects("contacts")

    @property
    def companies(self) -> Objects:
        """Companies."""
        return self.objects("companies")

    @property
    def deals(self) -> Objects:
        """Deals."""
        return self.objects("deals")

    @property
    def tickets(self) -> Objects:
        """Tickets."""
        return self.objects("tickets")

    @property
    def products(self) -> Objects:
        """Products."""
        return self.objects("products")

    @property
    def line_items(self) -> Objects:
        """Line items."""
        return self.objects("line_items")

    @property
    def notes(self) -> Engagements:
        """Notes."""
        return Engagements(self._access, "notes")

    @property
    def tasks(self) -> Engagements:
        """Tasks."""
        return Engagements(self._access, "tasks")

    @property
    def calls(self) -> Engagements:
        """Calls that people made, not ours to HubSpot."""
        return Engagements(self._access, "calls")

    @property
    def emails(self) -> Engagements:
        """E-mails."""
        return Engagements(self._access, "emails")

    @property
    def associations(self) -> Associations:
        """Associations between records."""
        return Associations(self._access)

    @property
    def privacy(self) -> Privacy:
        """Erasure and export of one person."""
        return Privacy(self._access)


class CRM:
    """Everything of HubSpot's that one process uses; `open` it once and `close` it."""

    def __init__(
        self,
        client: "HubSpotClient",
        budget: RateBudget,
        paths: Paths,
        own_writes: OwnWriteLedger,
        rules: ValidationRules | None = None,
    ) -> None:
        self.budget = budget
        self.own_writes = own_writes
        self._client = client
        self._paths = paths
        self._queues = BatchQueues(
            PacedClient(client, budget, account_request=ApiRequest("GET", paths.account_details())),
            paths,
            own_writes,
            rules=rules,
        )

    @classmethod
    async def open(cls, settings: Settings, redis: Redis) -> "CRM":
        """Assemble it; nothing is asked of HubSpot yet, and `redis` stays the caller's to close."""
        from spokes.crm.transport.client import HubSpotClient  # noqa: PLC0415 - loads hubspot-api-client, which only workers need

        client = HubSpotClient(
            api_url=settings.hubspot_api_url,
            token=settings.hubspot_access_token.get_secret_value(),
            timeout_s=settings.hubspot_timeout_s,
            concurrency=_MAX_CONCURRENT_CALLS,
        )
        budget = RateBudget(
            redis,
            limit=settings.hubspot_rate_limit,
            search_limit=settings.hubspot_search_limit,
            association_limit=settings.hubspot_association_limit,
            reserve=settings.hubspot_reserve,
            call_timeout_s=settings.hubspot_timeout_s + _LEASE_GRACE_S,
            concurrency=_MAX_CONCURRENT_CALLS,
        )
        echoes = OwnWriteLedger(redis, derive_key(settings.master_key(), "echoes"))
        rules = ValidationRules(
            frozenset(domain.lower() for domain in settings.blocked_email_domains), settings.default_region
        )
        return cls(client, budget, Paths(settings.hubspot_api_version), echoes, rules)

    def handler_services(
        self,
        portal_id: int,
        object_type: str,
        reads: Mapping[str, tuple[str, ...]],
        may: frozenset[str],
        on_write: Callable[[WriteRecord], None],
        *,
        before_write: Callable[[], None] = lambda: None,
        before_send: SendCheck = no_check,
        priority: Priority = "interactive",
        on_read: Callable[[str, tuple[str, ...]], None] = lambda _type, _properties: None,
    ) -> Services:
        """Return the view that a handler gets.

        Args:
            object_type: of the event; `objects` in the declarations stands for it, in handlers of every type.
            reads: properties that may be read, by plural name of the type.
            may: methods that may be called, as `contacts.update`, `associations.list`, `privacy.delete`.
            journal: told of every change.
            permit: called before every change; what it raises is raised instead of making it.
            still: called once more when the change has waited for its place; it may raise LeaseLost.
            priority: whether somebody waits for the event, see `spokes.crm.transport.rate_budget`.
            seen: told of each read that was answered, type and properties.
        """
        own = {"objects": object_type, "object": object_type}
        declared = {plural(own.get(name, name)): tuple(properties) for name, properties in reads.items()}
        methods = frozenset(_method_of_service(method, own) for method in may)
        return Services(
            HandlerAccess(
                self._queues, portal_id, declared, methods, on_write, before_write, before_send, priority, on_read
            )
        )

    async def check_token(self) -> TokenInfo | None:
        """Ask whom the token belongs to; None when HubSpot cannot be asked now.

        Whose budget the call is of is known only afterwards, and it is counted there then.

        Raises:
            NotAuthorized: HubSpot does not know the token.
        """
        found = await token_info(self._client, self._paths)
        if found is not None and found.hub_id:
            await self.budget.count_call(found.hub_id)
        return found

    async def close(self) -> None:
        """Refuse who waits for a place, answer those whose calls are under way, end threads and connections."""
        await self._queues.close()


def _method_of_service(declared: str, own: Mapping[str, str]) -> str:
    """A declared method with its service under the name that services use."""
    service, _, name = declared.rpartition(".")
    return f"{plural(own.get(service, service))}.{name}"
