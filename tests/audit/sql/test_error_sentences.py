"""Errors of a real PostgreSQL, each with a sentence that says what to do and quotes nothing."""

import pytest
from sqlalchemy import make_url, text

from spokes.audit.sql import schema
from spokes.audit.sql.engine import open_engine, read_connection, write_connection
from spokes.core.errors import AuditUnavailable

pytestmark = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


async def sentence(url: str, statement: str = "SELECT 1") -> str:
    """Return the sentence of the error of a statement."""
    engine = open_engine(url)
    try:
        async with read_connection(engine) as connection:
            await connection.execute(text(statement))
    except AuditUnavailable as error:
        return str(error)
    finally:
        await engine.dispose()
    return ""


@pytest.mark.parametrize(
    ("change", "code", "remedy"),
    [
        ({"database": "nobodys"}, "3D000", "Create it, or correct the name"),
        ({"username": "nobody"}, "28000", "Set it to what your provider shows now"),
    ],
)
async def test_refused_connection_says_what_to_correct(
    database_url: str, change: dict[str, str], code: str, remedy: str
) -> None:
    url = make_url(database_url).set(**change).render_as_string(hide_password=False)  # type: ignore[arg-type]  # typed by keyword
    shown = await sentence(url)
    assert f"({code})" in shown
    assert remedy in shown


async def test_missing_table_and_missing_permission_have_sentences_of_their_own(database_url: str) -> None:
    engine = open_engine(database_url)
    await schema.upgrade(engine)
    async with write_connection(engine) as connection:
        await connection.execute(text("CREATE ROLE reader_of_nothing LOGIN"))
    try:
        reader = make_url(database_url).set(username="reader_of_nothing").render_as_string(hide_password=False)
        assert "lacks a permission" in await sentence(reader, "SELECT seq FROM audit_head")
        assert "Run `spokes migrate`" in await sentence(database_url, "SELECT seq FROM no_table")
    finally:
        async with write_connection(engine) as connection:
            await connection.execute(text("DROP ROLE reader_of_nothing"))
        await engine.dispose()
