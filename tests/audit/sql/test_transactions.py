"""Write transactions that are plain functions, in both stores."""

import asyncio

import pytest
from sqlalchemy import Connection, func, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.sql.engine import read_connection
from spokes.audit.sql.transactions import WriteTransactions
from spokes.core.errors import AuditUnavailable


async def count(engine: AsyncEngine) -> int | None:
    async with read_connection(engine) as connection:
        return await connection.scalar(select(func.count()).select_from(text("notes")))


async def create(transactions: WriteTransactions) -> None:
    await transactions.run(lambda connection: connection.execute(text("CREATE TABLE notes (a INTEGER)")).close())


def insert(connection: Connection) -> int:
    return connection.execute(text("INSERT INTO notes VALUES (1)")).rowcount


async def test_function_is_committed_and_its_result_returned(engine: AsyncEngine) -> None:
    transactions = WriteTransactions(engine)
    await create(transactions)
    assert await transactions.run(insert) == 1
    assert await count(engine) == 1
    await transactions.close()


async def test_function_that_fails_leaves_nothing(engine: AsyncEngine) -> None:
    def fail(connection: Connection) -> None:
        insert(connection)
        raise ValueError

    transactions = WriteTransactions(engine)
    await create(transactions)
    with pytest.raises(ValueError):  # noqa: PT011 - the function's own error
        await transactions.run(fail)
    assert await count(engine) == 0
    await transactions.close()


async def test_error_of_the_store_is_ours(engine: AsyncEngine) -> None:
    transactions = WriteTransactions(engine)
    with pytest.raises(AuditUnavailable):
        await transactions.run(insert)
    await transactions.close()


async def test_next_transaction_after_close_opens_a_connection(engine: AsyncEngine) -> None:
    transactions = WriteTransactions(engine)
    await create(transactions)
    await transactions.close()
    assert await transactions.run(insert) == 1
    await transactions.close()


async def test_several_writers_wait_for_each_other(engine: AsyncEngine) -> None:
    all_transactions = [WriteTransactions(engine) for _ in range(3)]
    await create(all_transactions[0])
    await asyncio.gather(*(each.run(insert) for each in all_transactions for _ in range(10)))
    assert await count(engine) == 30
    for each in all_transactions:
        await each.close()
