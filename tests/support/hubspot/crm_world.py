"""A simulated HubSpot, and the CRM services that call it over real HTTP."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from redis.asyncio import Redis

from spokes.core.priority import Priority
from spokes.core.settings import Settings
from spokes.crm.access import UnleasedContext
from spokes.crm.services import CRM, Services, WriteRecord
from spokes.simulator.app import Simulator
from spokes.simulator.config import PortalConfig, SimulatorConfig
from spokes.simulator.crm.records import CrmRecord
from spokes.simulator.property_definition import PropertyDefinition

PORTAL = 50112233
TOKEN = "pat-na1-simulated"
READS = {"contacts": ("phone", "email"), "companies": ("name",), "notes": ("hs_note_body",)}
ACCOUNT = PortalConfig(
    properties={
        "contacts": {
            "age": PropertyDefinition("number"),
            "customer_number": PropertyDefinition(unique=True),
            "flag": PropertyDefinition("bool"),
            "interests": PropertyDefinition("enumeration", ("Cheese", "Wine")),
            "score": PropertyDefinition("number"),
        }
    }
)
ANY_PROPERTY = PortalConfig(has_standard_properties=False)  # takes every property, and lists none


class CRMWorld:
    """One simulated portal, our CRM, and the records of our writes."""

    def __init__(self, sim: Simulator, crm: CRM) -> None:
        self.sim = sim
        self.crm = crm
        self.writes: list[WriteRecord] = []

    def services(
        self, *may: str, reads: Mapping[str, tuple[str, ...]] | None = None, priority: Priority = "interactive"
    ) -> Services:
        """Return the services of a handler that declared these methods and reads."""
        declared = READS if reads is None else reads
        context = UnleasedContext(self.writes, priority=priority)
        return self.crm.handler_services(PORTAL, "contact", declared, frozenset(may), context)

    def create(self, type_name: str = "contacts", **properties: str) -> str:
        """Create a record as a user does; return its id."""
        store = self.sim.crm
        return store.create(store.types.resolve(type_name), properties, self.sim.portal.config.own_source).id

    def create_contacts(self, count: int) -> list[str]:
        """Create `count` contacts; return their ids."""
        return [self.create(email=f"person{i}@example.org") for i in range(count)]

    def find(self, type_name: str, object_id: str, *, archived: bool = False) -> CrmRecord | None:
        """Return a record as it is in the simulator."""
        return self.sim.crm.find(self.sim.crm.types.resolve(type_name), object_id, archived=archived)

    def merge(self, primary_id: str, *other_ids: str) -> str:
        """Merge contacts as a user does; return the survivor's id."""
        for other_id in other_ids:
            primary, other = self.find("contacts", primary_id), self.find("contacts", other_id)
            assert primary
            assert other
            primary_id = self.sim.crm.merge(primary, other, self.sim.portal.config.own_source).id
        return primary_id

    @property
    def calls(self) -> list[str]:
        """Every call so far, as method and the end of its path."""
        return [f"{c.method} {c.path.partition('/2026-09/')[2]}" for c in self.sim.requests]


@asynccontextmanager
async def open_world(redis: Redis, config: PortalConfig = ACCOUNT, **settings: object) -> AsyncIterator[CRMWorld]:
    """Start a simulator and a CRM for it; `settings` replace the CRM's."""
    async with Simulator(SimulatorConfig(portals=(config,))) as sim:
        values = {
            "hubspot_api_url": sim.url, "hubspot_access_token": TOKEN, "hubspot_api_version": "2026-09",
            "audit_key": "k" * 32, **settings,
        }  # fmt: skip
        crm = await CRM.open(Settings(**values), redis)  # type: ignore[arg-type]  # fields of many types, by name
        await crm.credentials.learn()
        sim.requests.clear()
        yield CRMWorld(sim, crm)
        await crm.close()
