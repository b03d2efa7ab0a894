"""spokes.core.settings.database_url: hosts' spellings are translated, and what cannot be used is refused."""

from pathlib import Path

import pytest

from spokes.audit.sql.engine import open_engine
from spokes.core.errors import ConfigurationError
from spokes.core.settings import Settings

ADDRESS = "postgresql+asyncpg://u:p@h:5432/d"
ACCEPTED = [
    ("postgres://u:p@h:5432/d", ADDRESS),
    ("postgresql://u:p@h:5432/d", ADDRESS),
    ("POSTGRES://u:p@h:5432/d", ADDRESS),
    ("postgresql+psycopg2://u:p@h:5432/d", ADDRESS),
    ("postgresql+asyncpg://u:p@h:5432/d/", ADDRESS),
    ("postgres://u:a@b@h/d", "postgresql+asyncpg://u:a%40b@h/d"),
    ("postgres://u:pw%2F%23@h/d", "postgresql+asyncpg://u:pw%2F%23@h/d"),
    ("postgres:///d?host=/var/run/postgresql", "postgresql+asyncpg:///d?host=/var/run/postgresql"),
    ("postgres://u@%2Fvar%2Frun/d", "postgresql+asyncpg://u@%2Fvar%2Frun/d"),
    ("postgres://u@a:1,b:2/d?target_session_attrs=read-write",
     "postgresql+asyncpg://u@a:1,b:2/d?target_session_attrs=read-write"),
    ("postgres://h/d?ssl=true", "postgresql+asyncpg://h/d?sslmode=require"),
    ("postgres://h/d?ssl=false", "postgresql+asyncpg://h/d?sslmode=disable"),
    ("postgres://h/d?ssl=verify-full&sslmode=require", "postgresql+asyncpg://h/d?sslmode=require"),
    ("postgres://h/d?sslmode=no-verify", "postgresql+asyncpg://h/d?sslmode=require"),
    ("postgres://h/d?schema=audit", "postgresql+asyncpg://h/d?search_path=audit"),
    ("postgres://h/d?application_name=spokes", "postgresql+asyncpg://h/d?application_name=spokes"),
    ("postgres://h/d?options=-c%20statement_timeout%3D5s",
     "postgresql+asyncpg://h/d?options=-c%20statement_timeout%3D5s"),
    ("postgres://h/d?connection_limit=5&pool_timeout=2", "postgresql+asyncpg://h/d"),
    ("postgres://h/d?keepalives=1&keepalives_idle=30&tcp_user_timeout=1", "postgresql+asyncpg://h/d"),
    ("postgres://h/d?pgbouncer=true&connect_timeout=10&channel_binding=require", "postgresql+asyncpg://h/d"),
    ("postgres://h/d?anything_new=1&sslmode=", "postgresql+asyncpg://h/d"),
    ("sqlite:////tmp/a.sqlite", "sqlite+aiosqlite:////tmp/a.sqlite"),
    ("sqlite:///a.sqlite", "sqlite+aiosqlite:///a.sqlite"),
    ("sqlite+aiosqlite:////tmp/a.sqlite?timeout=5", "sqlite+aiosqlite:////tmp/a.sqlite"),
]  # fmt: skip
REFUSED = [
    ("mysql://u:p@h/d", "cannot use"),
    ("mongodb+srv://h/d", "cannot use"),
    ("host=h dbname=d", "has no scheme"),
    ("h:5432/d", "has no scheme"),
    ("/var/lib/audit.sqlite", "has no scheme"),
    ("postgres://u:pa#ss@h/d", "%23"),
    ("postgres://u:pa/ss@h:5432/d", "%2F"),
    ("postgres://u:pa?ss@h:5432/d", "%3F"),
    ("postgres://u:pa ss@h/d", "blank"),
    ("postgres://u:pw@h:5x/d", "port"),
    ("postgres://u:<pw>@h/d", "placeholder"),
    ("postgres://h:99999/d", "port"),
    ("postgres://a..b/d", "host"),
    ("postgres://[::1/d", "host"),
    ("postgres://h/a/b", "/ in it"),
    ("postgres://h/d?sslmode=maybe", "sslmode"),
    ('postgres://h/d?ssl={"rejectUnauthorized":false}', "placeholder"),
    ("postgres://h/d?target_session_attrs=fastest", "target_session_attrs"),
    ("postgres://h/d?sslrootcert=/nowhere/ca.pem", "sslrootcert"),
    ("postgres://h/d?statement_timeout=soon", "statement_timeout"),
    ("postgres://h/d?ssl_min_protocol_version=SSLv3", "ssl_min_protocol_version"),
    ("postgres://h/d?port=x", "port"),
    ("sqlite://", "keeps nothing"),
    ("sqlite:///:memory:", "keeps nothing"),
    ("sqlite://audit.sqlite", "slashes"),
    ("sqlite:////tmp/", "folder"),
    ('"postgres://u:p@h/d"', "quotation marks"),
    ("'postgres://u:p@h/d'", "quotation marks"),
]


@pytest.mark.parametrize(("url", "address"), ACCEPTED)
def test_url_of_any_host_becomes_an_address(
    url: str, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # an engine creates its file
    assert Settings.from_env({"DATABASE_URL": url}).database_address == address
    open_engine(address)


@pytest.mark.parametrize(("url", "named"), REFUSED)
def test_url_that_cannot_be_used_is_one_sentence(url: str, named: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        Settings.from_env({"DATABASE_URL": url})
    [sentence] = error.value.problems
    assert sentence.startswith("DATABASE_URL ")
    assert named in sentence


def test_dropped_parameters_are_named_in_one_line_and_others_are_kept(tmp_path: Path) -> None:
    authority = tmp_path / "root.crt"
    authority.write_text("")
    url = f"postgres://h/d?sslmode=verify-full&sslrootcert={authority}&pgbouncer=true&connection_limit=3"
    settings = Settings.from_env({"DATABASE_URL": url})
    assert settings.notes == ("DATABASE_URL has parameters without effect here: connection_limit, pgbouncer.",)
    assert settings.database_address.endswith(f"?sslmode=verify-full&sslrootcert={authority}")
