"""spokes.core.redis.keys: the table of keys is complete, and no product code spells a key elsewhere."""

import importlib
import inspect
import re

import pytest

from spokes.core.redis import key_table, keys
from spokes.core.redis.key_names import budget_keys, console_keys, handler_keys
from tests.support.deployment import ROOT

PATTERNS = {key.pattern for key in key_table.KEYS}
PREFIXES = {
    keys.JOB_KEY_PREFIX: "{delivery_id}",
    keys.RETRY_KEY_PREFIX: "{delivery_id}",
    keys.IN_PROGRESS_KEY_PREFIX: "{delivery_id}",
    keys.DEFAULT_JOB_KEY_PREFIX: "{delivery_id}",
    keys.DEFAULT_RETRY_KEY_PREFIX: "{delivery_id}",
    keys.DEFAULT_IN_PROGRESS_KEY_PREFIX: "{delivery_id}",
    keys.SEALED_PREFIX: "{portal_id}",
    "spokes:{portal_id}:seen:{hour}:": "{number}",
}
COMPOSED = {  # by alert_episodes.lua, and by workers.delivery.once from the key of an object's effects
    "spokes:alerts:told:{name}",
    "spokes:{portal_id}:once:{object_type}:{object_id}:{effect}",
}
TYPES = {"any", "channel", "hash", "list", "set", "sorted set", "stream", "string"}
NOT_A_KEY = {"object_data", "portal_prefix"}


def constants() -> set[str]:
    return {value for name, value in vars(keys).items() if name.isupper() and isinstance(value, str) and name[0] != "_"}


def names_from_functions() -> set[str]:
    """Call every function with its parameters' names in braces as arguments."""
    functions = {
        name: function
        for module in (keys, budget_keys, console_keys, handler_keys)
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__
    }
    assert functions.keys() >= NOT_A_KEY
    return {
        function(*(f"{{{name}}}" for name in inspect.signature(function).parameters))
        for name, function in functions.items()
        if name not in NOT_A_KEY
    }


def test_table_has_every_key_and_no_other() -> None:
    names = constants() | names_from_functions()
    assert {name + PREFIXES.get(name, "") for name in names} | COMPOSED == PATTERNS


def test_table_has_no_key_twice() -> None:
    assert len(key_table.KEYS) == len(PATTERNS)


@pytest.mark.parametrize("key", key_table.KEYS, ids=lambda key: key.pattern)
def test_type_and_owner_of_a_key_exist(key: key_table.RedisKey) -> None:
    assert key.type in TYPES
    for owner in key.owner.split(", "):
        assert importlib.import_module(owner)


def test_no_key_is_spelled_outside_the_modules_of_keys() -> None:
    literal = re.compile(r"""["'](?:spokes|arq):[a-z{]""")
    spelled = [
        str(path.relative_to(ROOT))
        for package in ("handlers", "ingest", "spokes", "workers")
        for pattern in ("*.py", "*.lua")
        for path in (ROOT / package).rglob(pattern)
        if literal.search(path.read_text())
    ]
    # The inventory of stored data lists patterns. The Lua scripts delete and lease jobs by the prefixes of their keys;
    # those of the test kit keep its time.
    assert sorted(spelled) == [
        "spokes/core/redis/key_names/budget_keys.py",
        "spokes/core/redis/key_names/console_keys.py",
        "spokes/core/redis/key_names/handler_keys.py",
        "spokes/core/redis/key_table.py",
        "spokes/core/redis/keys.py",
        "spokes/privacy/data_inventory.py",
        "spokes/testing/advance.lua",
        "spokes/testing/virtual_time.lua",
        "workers/delivery/settle.lua",
        "workers/queue/claim.lua",
    ]
