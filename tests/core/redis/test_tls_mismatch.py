"""A REDIS_URL whose transport is not the server's is named wherever a person looks: command, doctor, readiness."""

import asyncio
import datetime as dt
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from redis.asyncio import Redis

from spokes.core.settings import Settings
from tests.support.command_line import spokes
from tests.support.deployment import WebProcessServer


@pytest.fixture
async def tls_url(tmp_path: Path) -> AsyncIterator[str]:
    """The address of a server that speaks TLS only."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "redis")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path / "server.pem"
    private = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    pem.write_bytes(key.private_bytes(*private) + certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    server.close()


async def named_by(environ: dict[str, str]) -> list[str]:
    """Return what a command, doctor and readiness print."""
    commands = [await asyncio.to_thread(spokes, environ, command) for command in ("pause", "doctor")]
    async with TestClient(WebProcessServer(Settings.from_env(environ))) as client, client.get("/readyz") as response:
        return [command.stdout + command.stderr for command in commands] + [await response.text()]


async def test_server_with_tls_behind_an_url_without_it_is_named(environ: dict[str, str], tls_url: str) -> None:
    for text in await named_by(environ | {"REDIS_URL": tls_url}):
        assert "the server at REDIS_URL speaks TLS" in text
        assert "Write rediss:// instead of redis://." in text


async def test_server_without_tls_behind_an_url_with_it_is_named(environ: dict[str, str], redis: Redis) -> None:
    url = environ["REDIS_URL"].replace("redis://", "rediss://")
    for text in await named_by(environ | {"REDIS_URL": url, "REDIS_TIMEOUT_S": "0.5"}):
        assert "the server at REDIS_URL speaks no TLS" in text
        assert "Write redis:// instead of rediss://." in text


async def test_server_that_is_away_is_not_taken_for_one_with_tls(environ: dict[str, str]) -> None:
    for text in await named_by(environ | {"REDIS_URL": "redis://127.0.0.1:1/0"}):
        assert "Redis does not answer. Check REDIS_URL and the server." in text
