"""`CRM`: HubSpot for one process, and the restricted services that one handler call gets."""

from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from redis.asyncio import Redis

from spokes.core.errors import CRMError
from spokes.core.masking import derive_key
from spokes.core.master_key import load_master_key
from spokes.core.priority import Priority
from spokes.core.settings import Settings
from spokes.core.telemetry.secret_ages import token_fingerprint
from spokes.crm.access import Grants, HandlerAccess, HandlerContext, WriteRecord
from spokes.crm.associations import Associations
from spokes.crm.batching.registry import BatchQueues
from spokes.crm.engagements import Engagements
from spokes.crm.object_types import plural
from spokes.crm.objects import Objects
from spokes.crm.own_writes import OwnWriteLedger
from spokes.crm.privacy import Privacy
from spokes.crm.transport.credentials import (
    CombinedCredentials,
    Credentials,
    InstalledCredentials,
    TokenCredentials,
)
from spokes.crm.transport.paced_client import UNCHECKED, ApiRequest, CallObserver, PacedClient, call_renewing
from spokes.crm.transport.paths import Paths
from spokes.crm.transport.rate_budget import CallKind, RateBudget
from spokes.crm.transport.token_info import TokenInfo
from spokes.crm.values.validation import ValidationRules

if TYPE_CHECKING:
    from spokes.crm.transport.client import ApiResponse, HubSpotClient  # their import loads hubspot-api-client

__all__ = ["CRM", "Services", "TokenInfo", "WriteRecord"]

_MAX_CONCURRENT_CALLS: Final = 32  # concurrent calls of one process; a limit of 250 in 10 s needs 3 at 100 ms
_LEASE_GRACE_S: Final = 5.0  # beyond the time-out of a call, until the slot of a process that died comes back


class Services:
    """HubSpot as one handler call may use it; an undeclared method raises NotPermitted, without a call."""

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
        """Phone calls that people logged, not API calls."""
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
    """HubSpot for one process; `open` it once and `close` it."""

    def __init__(
        self,
        credentials: Credentials,
        token_credentials: TokenCredentials,
        budget: RateBudget,
        paths: Paths,
        own_writes: OwnWriteLedger,
        *,
        rules: ValidationRules | None = None,
        token_fingerprint: str = "",
    ) -> None:
        """Call HubSpot with `credentials`, of which `token_credentials` are a part.

        Audit records name the access token by `token_fingerprint`.
        """
        self.budget = budget
        self.own_writes = own_writes
        self.credentials = credentials
        self.token_credentials = token_credentials
        self.token_fingerprint = token_fingerprint
        self._installed_fingerprint: Callable[[int], str] | None = None
        self._paths = paths
        paced_client = PacedClient(credentials, budget, account_request=ApiRequest("GET", paths.account_details()))
        self._client = paced_client
        self._queues = BatchQueues(paced_client, paths, rules=rules)

    def use_regions(self, region: "Callable[[int], str]") -> None:
        """Take the country of phone numbers without a + from `region`, which is called with the portal."""
        self._queues.region = region

    @property
    def inputs_awaited(self) -> int:
        """The number of inputs of batches that HubSpot has not answered."""
        return self._client.inputs_awaited

    def call_when_inputs_are_sent(self, callback: Callable[[], None]) -> None:
        """Call `callback` whenever `inputs_awaited` has grown."""
        self._client.on_inputs_sent = callback

    def observe_calls(self, observer: CallObserver) -> None:
        """Have `observer` take note of the end of each call."""
        self._client.observer = observer

    @classmethod
    async def open(
        cls,
        settings: Settings,
        redis: Redis,
        installed: "Callable[[HubSpotClient], InstalledCredentials] | None" = None,
        *,
        concurrency: int = _MAX_CONCURRENT_CALLS,
    ) -> "CRM":
        """Return a CRM; no call is made yet, and the caller closes `redis`.

        Args:
            installed: makes the credentials of portals that installed the app, whose clients share the given one's
                connections; without, only the access token is used.
            concurrency: calls in flight at most, half of them of imports.
        """
        from spokes.crm.transport.client import HubSpotClient  # noqa: PLC0415 - loads hubspot-api-client, which only workers need

        client = HubSpotClient(
            api_url=settings.hubspot_api_url,
            token=settings.hubspot_access_token.get_secret_value(),
            timeout_s=settings.hubspot_timeout_s,
            concurrency=concurrency,
        )
        budget = RateBudget(
            redis,
            limit=settings.hubspot_rate_limit,
            search_limit=settings.hubspot_search_limit,
            association_limit=settings.hubspot_association_limit,
            reserve=settings.hubspot_reserve,
            call_timeout_s=settings.hubspot_timeout_s + _LEASE_GRACE_S,
            concurrency=concurrency,
        )
        own_writes = OwnWriteLedger(redis, derive_key(load_master_key(settings), "echoes"))
        blocked_domains = frozenset(domain.lower() for domain in settings.blocked_email_domains)
        rules = ValidationRules(blocked_domains, settings.default_region)
        paths = Paths(settings.hubspot_api_version)
        has_token = bool(settings.hubspot_access_token.get_secret_value())
        token = TokenCredentials(client, paths, portal_ids=settings.portal_ids, has_token=has_token or not installed)
        credentials: Credentials = token
        portals = installed(client) if installed else None
        if portals is not None:
            credentials = CombinedCredentials(token, portals)
            budget.oauth_portals = portals.portals
        fingerprint = token_fingerprint(settings)
        crm = cls(credentials, token, budget, paths, own_writes, rules=rules, token_fingerprint=fingerprint)
        if portals is not None:
            crm._installed_fingerprint = portals.fingerprint
        return crm

    def fingerprint_of(self, portal_id: int) -> str:
        """Return the fingerprint of the access token that calls HubSpot for a portal, by which the audit names it."""
        if self._installed_fingerprint is None or portal_id in self.token_credentials.token_portals:
            return self.token_fingerprint
        return self._installed_fingerprint(portal_id)

    def handler_services(
        self,
        portal_id: int,
        object_type: str,
        reads: Mapping[str, tuple[str, ...]],
        may: frozenset[str],
        context: HandlerContext,
    ) -> Services:
        """Return the services for one handler call, restricted to what the handler declared.

        Args:
            object_type: of the event; `objects` in the declarations means this type, in handlers of every type.
            reads: properties that may be read, by plural name of the type.
            may: methods that may be called, as `contacts.update`, `associations.list`, `privacy.delete`.
            context: allows each write and call, and takes note of reads and writes.
        """
        declared, methods = _rights(object_type, tuple(reads.items()), may)
        return Services(HandlerAccess(Grants(portal_id, declared, methods), context, self._queues, self.own_writes))

    @property
    def paths(self) -> Paths:
        """The paths of HubSpot's endpoints."""
        return self._paths

    async def send(self, portal_id: int, request: ApiRequest, kind: CallKind, priority: Priority) -> "ApiResponse":
        """Make a call that belongs to no handler, within the portal's budget.

        Raises:
            CRMError: the call failed, or calls are paused for longer than callers wait.
        """
        return await self._client.send(portal_id, request, kind, UNCHECKED[priority])

    @property
    def served_portals(self) -> Collection[int] | None:
        """The portals that this process has credentials for; None until HubSpot has named the token's portal.

        An empty collection means that there are none, so it says nothing before.
        """
        return self.credentials.portals if self.token_credentials.is_portal_known else None

    async def check_token(self) -> TokenInfo | None:
        """Return the portal and scopes of the token; None if HubSpot cannot answer now.

        Only the response names the portal, so the call is counted in its budget afterwards.

        Raises:
            NotAuthorized: HubSpot does not know the token.
        """
        info = await self.token_credentials.learn()
        if info is not None:
            await self.budget.count_call(info.hub_id)
        return info

    async def accepts_credentials(self, portal_id: int) -> bool:
        """Return whether HubSpot answers and accepts the portal's credentials."""
        try:
            if portal_id not in self.budget.oauth_portals or portal_id in self.token_credentials.token_portals:
                return await self.check_token() is not None
            path, client = self._paths.account_details(), await self.credentials.client(portal_id)
            await call_renewing(self.credentials, portal_id, client, lambda current: current.call("GET", path))
        except CRMError:
            return False
        return True

    async def close(self) -> None:
        """Refuse calls that wait for a slot, wait for those in flight, end threads and connections."""
        await self._queues.close()


@lru_cache(maxsize=1_000)
def _rights(
    object_type: str, reads: tuple[tuple[str, tuple[str, ...]], ...], may: frozenset[str]
) -> tuple[Mapping[str, tuple[str, ...]], frozenset[str]]:
    """Return a handler's declarations by the plural names of types; cached, because each of its calls needs them."""
    own_names = {"objects": object_type, "object": object_type}
    declared = {plural(own_names.get(name, name)): properties for name, properties in reads}
    return declared, frozenset(_method_of_service(method, own_names) for method in may)


def _method_of_service(declared: str, own_names: Mapping[str, str]) -> str:
    """Return a declared method with its service's plural name."""
    service, _, name = declared.rpartition(".")
    return f"{plural(own_names.get(service, service))}.{name}"
