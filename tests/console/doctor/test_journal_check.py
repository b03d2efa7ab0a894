"""spokes.console.doctor.journal_check: how far the journal is read, and whether anybody reads it."""

from redis.asyncio import Redis

from spokes.console.doctor.findings import FindingLevel
from spokes.console.doctor.journal_check import check_journal
from spokes.core import clock
from spokes.core.redis.keys import JOURNAL_CURSOR, JOURNAL_READER
from spokes.core.settings import Settings


async def findings(environ: dict[str, str], redis: Redis, **changes: str) -> list[tuple[FindingLevel, str]]:
    base = {"HUBSPOT_CLIENT_ID": "the-app-s-client-id", "SECRETS_KEY": "s" * 32, "DEDUPE_HOURS": "96"}
    settings = Settings.from_env({**environ, **base, **changes})
    return [(finding.level, finding.sentence) for finding in await check_journal(settings, redis)]


async def test_deployment_without_the_journal_has_no_line(environ: dict[str, str], redis: Redis) -> None:
    assert await findings(environ, redis) == []


async def test_reader_that_has_caught_up_is_in_order(environ: dict[str, str], redis: Redis) -> None:
    await redis.hset(JOURNAL_CURSOR, mapping={"offset": "a", "read_until": clock.now_ms()})
    await redis.set(JOURNAL_READER, "me")
    ((level, sentence),) = await findings(environ, redis)
    assert (level, "up to 0 minutes ago, and a reader runs" in sentence) == (FindingLevel.OK, True)


async def test_reader_that_does_not_run_is_named(environ: dict[str, str], redis: Redis) -> None:
    await redis.hset(JOURNAL_CURSOR, mapping={"offset": "a", "read_until": clock.now_ms() - 7_200_000})
    ((level, sentence),) = await findings(environ, redis)
    assert (level, "120 minutes ago" in sentence, "No reader runs" in sentence) == (FindingLevel.WARNING, True, True)


async def test_reader_that_is_late_is_named(environ: dict[str, str], redis: Redis) -> None:
    await redis.hset(JOURNAL_CURSOR, mapping={"offset": "a", "read_until": clock.now_ms() - 7_200_000})
    await redis.set(JOURNAL_READER, "me")
    ((level, sentence),) = await findings(environ, redis)
    assert (level, "journal_read_failed" in sentence) == (FindingLevel.WARNING, True)


async def test_short_life_of_event_keys_is_named(environ: dict[str, str], redis: Redis) -> None:
    await redis.hset(JOURNAL_CURSOR, mapping={"offset": "a", "read_until": clock.now_ms()})
    await redis.set(JOURNAL_READER, "me")
    sentences = [sentence for _, sentence in await findings(environ, redis, DEDUPE_HOURS="48")]
    assert any(sentence.startswith("DEDUPE_HOURS is 48") for sentence in sentences)
