"""spokes.core.settings.redis_url: every spelling of REDIS_URL is read, or refused in a sentence."""

from pathlib import Path
from typing import Any

import pytest
from redis.asyncio.connection import SSLConnection

from spokes.core.errors import ConfigurationError
from spokes.core.redis.connections import redis_pool
from spokes.core.settings import Settings
from spokes.core.settings.redis_url import RedisServer, parse_redis_url

ACCEPTED: list[tuple[str, RedisServer]] = [
    ("redis://127.0.0.1:6379", RedisServer("127.0.0.1")),
    ("redis://127.0.0.1:6379/", RedisServer("127.0.0.1")),
    ("valkey://cache.internal/3", RedisServer("cache.internal", database=3)),
    ("REDIS://Cache.Internal./3", RedisServer("Cache.Internal.", database=3)),
    ("redis://", RedisServer()),
    ("redis:///2", RedisServer(database=2)),
    ("redis://[::1]:7000/1", RedisServer("::1", 7000, database=1)),
    ("redis://h?db=4", RedisServer("h", database=4)),
    ("redis://h/4?db=4", RedisServer("h", database=4)),
    ("redis://:p%23a%2Fss%40@h", RedisServer("h", password="p#a/ss@")),
    ("redis://user:a@b:c@h", RedisServer("h", user="user", password="a@b:c")),
    ("redis://h?username=u&password=p", RedisServer("h", user="u", password="p")),
    ("redis://user@h", RedisServer("h", user="user")),
    ("rediss://h:6380", RedisServer("h", 6380, tls=True)),
    ("valkeys://h", RedisServer("h", tls=True)),
    ("rediss://h?ssl_cert_reqs=CERT_NONE", RedisServer("h", tls=True, verify="none")),
    ("rediss://h?ssl_cert_reqs=none", RedisServer("h", tls=True, verify="none")),
    ("rediss://h?ssl_cert_reqs=ssl.CERT_REQUIRED", RedisServer("h", tls=True, verify="required")),
    ("rediss://h?ssl_cert_reqs=required", RedisServer("h", tls=True, verify="required")),
    ("rediss://h?ssl_cert_reqs=CERT_OPTIONAL", RedisServer("h", tls=True, verify="optional")),
    ("rediss://h?ssl_check_hostname=False", RedisServer("h", tls=True, check_host=False)),
    ("unix:///run/redis.sock", RedisServer(socket="/run/redis.sock")),
    ("unix://u:p@/run/redis.sock?db=2", RedisServer(socket="/run/redis.sock", database=2, user="u", password="p")),
    ("redis+socket:///run/redis.sock?virtual_host=5", RedisServer(socket="/run/redis.sock", database=5)),
    ("redis://h?socket_timeout=5&family=6", RedisServer("h", ignored=("family", "socket_timeout"))),
    ("redis://h?ssl_cert_reqs=none", RedisServer("h", ignored=("ssl_cert_reqs",))),
]
REFUSED = [
    ("127.0.0.1:6379", "has no scheme"),
    ("localhost", "has no scheme"),
    ("redis:/h", "has no scheme"),
    ("//h:6379", "has no scheme"),
    ("http://h", "not Redis'"),
    ("redis-sentinel://h:26379/mymaster", "not Redis'"),
    ("redis://h/zero", "database"),
    ("redis://h/-1", "database"),
    ("redis://h/0/1", "database"),
    ("redis://h/99999999999", "database"),
    ("redis://h?db=x", "database"),
    ("redis://h/1?db=2", "two databases"),
    ("redis://:pa#ss@h:6379", "%23"),
    ("redis://:pa/ss@h:6379", "%2F"),
    ("redis://:pa?ss@h:6379", "%3F"),
    ("redis://:pa ss@h", "blank"),
    ("redis://:<password>@h", "placeholder"),
    ("redis://${HOST}:6379", "placeholder"),
    ("redis://h:port", "port"),
    ("redis://h:70000", "port"),
    ("redis://h:-1", "port"),
    ("redis://a:1,b:2", "several hosts"),
    ("redis://a..b", "host"),
    ("redis://" + "a" * 64, "host"),
    ("redis://bücher.example", "host"),
    ("redis://[::1", "host"),
    ("redis://[zz]:1", "IPv6"),
    ("redis://::1", "port"),
    ("redis://h?ssl=true", "rediss://"),
    ("rediss://h?ssl_cert_reqs=maybe", "ssl_cert_reqs"),
    ("rediss://h?ssl_check_hostname=maybe", "ssl_check_hostname"),
    ("rediss://h?ssl_ca_certs=/nowhere/ca.pem", "ssl_ca_certs"),
    ("unix://run/redis.sock", "three slashes"),
    ("unix://", "three slashes"),
    ("unix:///run/redis.sock?db=one", "database"),
    ('"redis://h"', "quotation marks"),
    ("'redis://h'", "quotation marks"),
]


@pytest.mark.parametrize(("url", "server"), ACCEPTED)
def test_url_names_the_server(url: str, server: RedisServer) -> None:
    assert parse_redis_url(url) == server
    redis_pool(Settings.from_env({"REDIS_URL": url}))


@pytest.mark.parametrize(("url", "named"), REFUSED)
def test_url_that_cannot_be_used_is_one_sentence(url: str, named: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        Settings.from_env({"REDIS_URL": url})
    [sentence] = error.value.problems
    assert sentence.startswith("REDIS_URL ")
    assert named in sentence


def connection_options(environ: dict[str, str]) -> dict[str, Any]:
    """Return what redis-py's connections get."""
    pool = redis_pool(Settings.from_env(environ))
    assert issubclass(pool.connection_class, SSLConnection)
    return dict(pool.connection_kwargs)


@pytest.mark.parametrize(
    ("query", "variables", "verify", "check_host"),
    [
        ("", {}, "none", False),
        ("", {"REDIS_TLS_VERIFY": "1"}, "required", True),
        ("?ssl_cert_reqs=required", {}, "required", True),
        ("?ssl_cert_reqs=required&ssl_check_hostname=false", {}, "required", False),
        ("?ssl_cert_reqs=CERT_NONE&ssl_check_hostname=true", {}, "none", False),
    ],
)
def test_certificate_is_verified_as_url_and_setting_say(
    query: str, variables: dict[str, str], verify: str, check_host: bool
) -> None:
    options = connection_options({"REDIS_URL": f"rediss://h{query}", **variables})
    assert (options["ssl_cert_reqs"], options["ssl_check_hostname"]) == (verify, check_host)


def test_files_of_certificates_reach_the_connection(tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    authority.write_text("")
    assert connection_options({"REDIS_URL": f"rediss://h?ssl_ca_certs={authority}"})["ssl_ca_certs"] == str(authority)


def test_ignored_parameters_are_named_in_one_line() -> None:
    settings = Settings.from_env({"REDIS_URL": "redis://h?max_connections=5&socket_keepalive=true"})
    assert settings.notes == ("REDIS_URL has parameters without effect here: max_connections, socket_keepalive.",)
