"""The path of one write: ledger entry, permission, call and write record, in this order."""

import asyncio
from collections.abc import Callable

import pytest
from redis.asyncio import Redis

from spokes.core.errors import CRMError, CRMUnavailable, InvalidRequest, LeaseLost, NotPermitted
from spokes.crm.access import Grants, HandlerAccess, UnleasedContext, Write, WriteRecord
from spokes.crm.own_writes import OwnWriteLedger
from spokes.crm.records import Record
from spokes.crm.results import WriteReceipt
from spokes.crm.transport.paced_client import SendContext
from tests.support.hubspot.crm_world import PORTAL, CRMWorld

ENTRY = (PORTAL, "contact", "7", "phone", "+49")


class RecordingContext(UnleasedContext):
    """Notes every call of its methods; `refuse` makes one of them raise LeaseLost."""

    __slots__ = ("calls", "refused")

    def __init__(self, refused: str = "") -> None:
        super().__init__()
        self.calls: list[str] = []
        self.refused = refused

    def before_write(self) -> None:
        self._record("before_write")

    def before_send(self) -> None:
        self._record("before_send")

    def on_write(self, write: WriteRecord) -> None:
        super().on_write(write)
        self._record("on_write")

    def _record(self, name: str) -> None:
        self.calls.append(name)
        if name == self.refused:
            raise LeaseLost


class ScriptedWriter:
    """Checks the context as a batch queue does, then returns `receipt` or raises it."""

    def __init__(self, outcome: WriteReceipt | BaseException, check: Callable[[], object] = lambda: None) -> None:
        self._outcome = outcome
        self._check = check

    async def submit(self, input_id: str, payload: object, context: SendContext) -> WriteReceipt:
        del input_id, payload
        context.before_send()
        if asyncio.iscoroutine(check := self._check()):
            await check
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        return self._outcome


def access_for(redis: Redis, context: UnleasedContext) -> tuple[HandlerAccess, OwnWriteLedger]:
    ledger = OwnWriteLedger(redis, b"key")
    # No queues: the writers are scripted.
    return HandlerAccess(Grants(PORTAL, {}, frozenset()), context, None, ledger), ledger  # type: ignore[arg-type]


def phone_update(read: Record | None = None) -> Write:
    return Write("contacts.update", "contact", "7", {"phone": "+49"}, read)


async def test_ledger_entry_comes_before_the_call_and_the_record_after_it(redis: Redis) -> None:
    context = RecordingContext()
    access, ledger = access_for(redis, context)
    was_recorded: list[bool] = []

    async def check() -> None:
        was_recorded.append(await ledger.is_echo(*ENTRY))

    await access.perform(phone_update(), ScriptedWriter(WriteReceipt("7", "c-1"), check), "7", None)

    assert was_recorded == [True]
    assert context.calls == ["before_write", "before_send", "on_write"]
    assert context.writes == [WriteRecord("contacts.update", "contact", "7", ("phone",), "c-1", ok=True, reason="")]


async def test_write_without_permission_makes_no_call_and_no_record(redis: Redis) -> None:
    context = RecordingContext(refused="before_write")
    access, _ = access_for(redis, context)

    with pytest.raises(LeaseLost):
        await access.perform(phone_update(), ScriptedWriter(WriteReceipt("7", "c-1")), "7", None)

    assert (context.calls, context.writes) == (["before_write"], [])


@pytest.mark.parametrize(
    ("error", "keeps_entry"), [(InvalidRequest(correlation_id="c-2"), False), (CRMUnavailable(), True)]
)
async def test_refused_write_loses_its_ledger_entry_and_an_unknown_one_keeps_it(
    redis: Redis, error: CRMError, keeps_entry: bool
) -> None:
    context = RecordingContext()
    access, ledger = access_for(redis, context)

    with pytest.raises(type(error)):
        await access.perform(phone_update(), ScriptedWriter(error), "7", None)

    assert await ledger.is_echo(*ENTRY) is keeps_entry
    assert [(w.ok, w.reason, w.correlation_id) for w in context.writes] == [(False, error.reason, error.correlation_id)]


async def test_lease_lost_before_sending_keeps_the_ledger_entry(redis: Redis) -> None:
    context = RecordingContext(refused="before_send")
    access, ledger = access_for(redis, context)

    with pytest.raises(LeaseLost):
        await access.perform(phone_update(), ScriptedWriter(WriteReceipt("7", "c-1")), "7", None)

    assert await ledger.is_echo(*ENTRY)
    assert [(w.ok, w.reason) for w in context.writes] == [(False, LeaseLost.reason)]


async def test_new_object_is_recorded_in_the_ledger_once_its_id_is_known(redis: Redis) -> None:
    access, ledger = access_for(redis, RecordingContext())
    creation = Write("contacts.create", "contact", "", {"phone": "+49"})

    await access.perform(creation, ScriptedWriter(WriteReceipt("7", "c-1")), "trace", None)

    assert await ledger.is_echo(*ENTRY)


async def test_write_is_based_on_the_record_that_was_read(redis: Redis) -> None:
    context = RecordingContext()
    access, ledger = access_for(redis, context)
    record = Record("7", "contact", {"phone": "49"}, 1_795_442_400_000)

    await access.perform(phone_update(record), ScriptedWriter(WriteReceipt("7", "c-1")), "7", None)

    assert await ledger.basis_of_write(*ENTRY) == record.updated_ms
    assert context.writes[0].based_on_ms == record.updated_ms


@pytest.mark.parametrize("name", ["create", "update", "upsert", "archive", "merge"])
async def test_each_write_method_checks_its_own_declaration(world: CRMWorld, name: str) -> None:
    arguments = {
        "create": ({"city": "x"},), "update": ("1", {"city": "x"}), "upsert": ("email", "a@example.org", {}),
        "archive": ("1",), "merge": ("1", "2"),
    }  # fmt: skip
    others = [f"contacts.{other}" for other in arguments if other != name]

    with pytest.raises(NotPermitted) as raised:
        await getattr(world.services(*others).contacts, name)(*arguments[name])

    assert raised.value.scopes == (f"contacts.{name}",)
    assert (world.calls, world.writes) == ([], [])


async def test_direct_calls_ask_the_context_before_they_are_sent(world: CRMWorld) -> None:
    context = RecordingContext(refused="before_send")
    may = frozenset({"contacts.merge"})
    services = world.crm.handler_services(PORTAL, "contact", {"contacts": ("email",)}, may, context)

    with pytest.raises(LeaseLost):
        await services.contacts.merge("1", "2")
    with pytest.raises(LeaseLost):
        await services.contacts.search()

    assert world.calls == []


async def test_batched_reads_need_no_lease(world: CRMWorld) -> None:
    (contact_id,) = world.create_contacts(1)
    context = RecordingContext(refused="before_send")
    services = world.crm.handler_services(PORTAL, "contact", {"contacts": ("email",)}, frozenset(), context)

    assert (await services.contacts.get(contact_id))["email"] == "person0@example.org"
