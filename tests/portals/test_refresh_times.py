from hypothesis import given
from hypothesis import strategies as st

from spokes.portals.refresh_times import TokenAge, backoff_s, token_age

PORTALS, GENERATIONS = st.integers(1, 2**53), st.integers(1, 10_000)
LIFETIMES_S = st.integers(1, 86_400)


def age(portal_id: int, generation: int, lifetime_s: int, left_ms: int) -> TokenAge:
    return token_age(portal_id, generation, expires_at=left_ms, lifetime_s=lifetime_s, now_ms=0)


@given(PORTALS, GENERATIONS, LIFETIMES_S, st.integers(-10_000, 0))
def test_expired_token_is_never_used(portal_id: int, generation: int, lifetime_s: int, left_ms: int) -> None:
    assert age(portal_id, generation, lifetime_s, left_ms) is TokenAge.EXPIRED


@given(PORTALS, GENERATIONS, LIFETIMES_S, st.floats(0.36, 1.0))
def test_token_in_the_first_half_of_its_life_is_not_refreshed(
    portal_id: int, generation: int, lifetime_s: int, share: float
) -> None:
    assert age(portal_id, generation, lifetime_s, round(lifetime_s * 1000 * share)) is TokenAge.FRESH


@given(PORTALS, GENERATIONS, LIFETIMES_S, st.data())
def test_token_only_grows_older(portal_id: int, generation: int, lifetime_s: int, data: st.DataObject) -> None:
    earlier = data.draw(st.integers(-1_000, lifetime_s * 1000))
    later = data.draw(st.integers(-1_000, earlier))
    order = [TokenAge.FRESH, TokenAge.AGEING, TokenAge.EXPIRED]
    ages = [order.index(age(portal_id, generation, lifetime_s, left_ms)) for left_ms in (earlier, later)]
    assert ages == sorted(ages)


@given(PORTALS, GENERATIONS)
def test_refresh_begins_at_least_minutes_before_a_token_of_half_an_hour_expires(
    portal_id: int, generation: int
) -> None:
    assert age(portal_id, generation, 1800, 269_000) is TokenAge.AGEING
    assert age(portal_id, generation, 1800, 10_001) is TokenAge.AGEING


def test_tokens_issued_together_are_refreshed_at_different_times() -> None:
    def refresh_second(portal_id: int) -> int:
        return next(left for left in range(1800, 0, -1) if age(portal_id, 1, 1800, left * 1000) is not TokenAge.FRESH)

    seconds = [refresh_second(portal_id) for portal_id in range(100)]
    assert len(set(seconds)) > 50
    assert max(seconds) - min(seconds) > 300


@given(st.integers(1, 1_000), st.floats(0, 86_400), st.floats(0, 1))
def test_backoff_is_bounded_and_at_least_the_requested_wait(failures: int, requested_s: float, jitter: float) -> None:
    assert requested_s <= backoff_s(failures, requested_s, jitter) <= max(60.0, requested_s) * 1.1
