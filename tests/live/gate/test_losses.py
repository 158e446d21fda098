"""Loss limits as a fold: what locks, until when, and which New York day a loss belongs to."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from gates import NAV, NOW, limits
from hypothesis import given
from hypothesis import strategies as st

from mbats.live.gate import Latch, Losses, NavMark, Reason, TradeClosed, Transfer, fold
from mbats.live.gate.calendar import day_start, later_day_start, trading_day
from mbats.live.gate.losses import Event

LIMITS = limits(max_daily_loss="0.02", max_drawdown="0.1", max_loss_streak=3, cooldown_days=0, cooldown_hours=0)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def after(*events: Event, rules: object = LIMITS, losses: Losses | None = None) -> tuple[Losses, list[Latch]]:
    """The figures after these events, and all latches that they set."""
    found = losses or Losses.begin(NAV, events[0].time)
    latches: list[Latch] = []
    for event in events:
        found, new = fold(found, event, rules)  # type: ignore[arg-type]
        latches += new
    return found, latches


def marks(*pairs: tuple[str, int]) -> list[Event]:
    return [NavMark(utc(time), Decimal(nav)) for time, nav in pairs]


def test_a_daily_loss_locks_at_its_limit_and_not_a_cent_before() -> None:
    _, before = after(NavMark(NOW, NAV - Decimal("1999.99")))
    _, locked = after(NavMark(NOW, NAV - 2000))

    assert before == []
    assert [(found.reason, found.since) for found in locked] == [(Reason.DAILY_LOSS, NOW)]
    assert locked[0].why == "2000.00 lost on 2024-06-12 from 100000.00, limit 2%"


def test_a_new_day_counts_from_the_last_nav_of_the_day_before() -> None:
    losses, latches = after(*marks(("2024-06-12 14:00", 98_500), ("2024-06-12 20:59", 98_500), ("2024-06-12 21:01", 97_000)))

    assert latches == []
    assert (losses.day, losses.day_nav, losses.day_loss) == (date(2024, 6, 13), 98_500, 1_500)


@pytest.mark.parametrize(
    ("lost", "day", "unlocked"),
    [
        # The clocks go forward on Sunday 2024-03-10 and back on Sunday 2024-11-03.
        ("2024-03-07 21:59:59", date(2024, 3, 7), "2024-03-07 22:00"),
        ("2024-03-07 22:00:00", date(2024, 3, 8), "2024-03-10 21:00"),
        ("2024-03-08 21:57:00", date(2024, 3, 8), "2024-03-10 21:00"),
        ("2024-03-10 21:00:00", date(2024, 3, 11), "2024-03-11 21:00"),
        ("2024-03-11 20:59:59", date(2024, 3, 11), "2024-03-11 21:00"),
        ("2024-10-31 20:59:59", date(2024, 10, 31), "2024-10-31 21:00"),
        ("2024-11-01 20:57:00", date(2024, 11, 1), "2024-11-03 22:00"),
        ("2024-11-03 21:59:59", date(2024, 11, 3), "2024-11-03 22:00"),
        ("2024-11-04 21:59:59", date(2024, 11, 4), "2024-11-04 22:00"),
        ("2024-11-04 22:00:00", date(2024, 11, 5), "2024-11-05 22:00"),
        # Christmas Eve 2024 is a Tuesday; FX is shut on the 25th.
        ("2024-12-24 15:00:00", date(2024, 12, 24), "2024-12-25 22:00"),
    ],
)
def test_a_daily_loss_unlocks_at_1700_new_york_when_the_next_open_day_begins(lost: str, day: date, unlocked: str) -> None:
    losses, latches = after(*marks((lost, 100_000), (lost, 97_000)))

    assert losses.day == day
    assert [found.until for found in latches] == [utc(unlocked)]


@pytest.mark.parametrize(
    ("rules", "unlocked"),
    [
        ({"cooldown_days": 0, "cooldown_hours": 0}, "2024-06-12 21:00"),
        ({"cooldown_days": 2}, "2024-06-13 21:00"),
        ({"cooldown_days": 3}, "2024-06-16 21:00"),  # Friday evening would be Saturday's, so Sunday evening
        ({"cooldown_days": 1, "cooldown_hours": 48}, "2024-06-14 14:00:30"),
        ({"cooldown_hours": "0.5"}, "2024-06-12 21:00"),
    ],
)
def test_a_cooldown_can_make_the_lock_longer_and_never_shorter(rules: dict[str, object], unlocked: str) -> None:
    narrow = limits(**({"max_daily_loss": "0.02", "cooldown_days": 0} | rules))

    _, latches = after(NavMark(NOW, NAV - 5000), rules=narrow)

    assert [found.until for found in latches] == [utc(unlocked)]


def test_a_loss_that_has_locked_does_not_lock_again_but_the_next_one_does() -> None:
    losses, latches = after(*[NavMark(NOW, NAV - lost) for lost in (2000, 2000, 3900, 3959)])
    assert len(latches) == 1

    _, again = after(NavMark(NOW, NAV - 3960), losses=losses)  # two per cent of 98,000 more
    assert [found.reason for found in again] == [Reason.DAILY_LOSS]


def test_a_drawdown_counts_from_the_peak_and_locks_until_a_person_resumes() -> None:
    wide = limits(max_daily_loss="0.5", max_drawdown="0.1")
    up_and_down = [
        NavMark(NOW + timedelta(days=day), Decimal(nav)) for day, nav in enumerate((110_000, 120_000, 110_000, 108_001))
    ]

    losses, latches = after(*up_and_down, rules=wide)
    assert latches == []

    _, latches = after(NavMark(NOW + timedelta(days=4), Decimal(108_000)), rules=wide, losses=losses)
    assert [(found.reason, found.until) for found in latches] == [(Reason.DRAWDOWN, None)]


def trades(*pls: int) -> list[Event]:
    return [TradeClosed(NOW + timedelta(minutes=number), Decimal(pl)) for number, pl in enumerate(pls)]


@pytest.mark.parametrize(
    ("pls", "locks"), [((-1, -1), 0), ((-1, -1, -1), 1), ((-1, -1, 1, -1), 0), ((-1, 0, -1, -1), 1), ((-1,) * 6, 2)]
)
def test_a_streak_of_losing_trades_locks_and_one_gain_ends_it(pls: tuple[int, ...], locks: int) -> None:
    _, latches = after(*trades(*pls))

    assert [found.reason for found in latches] == [Reason.LOSS_STREAK] * locks


def test_a_streak_locks_for_the_cooldown() -> None:
    _, latches = after(*trades(-1, -1, -1), rules=limits(max_loss_streak=3, cooldown_days=0, cooldown_hours=4))

    assert [found.until for found in latches] == [NOW + timedelta(minutes=2, hours=4)]


def test_money_paid_out_is_no_loss_and_money_paid_in_hides_none() -> None:
    _, paid_out = after(Transfer(NOW, Decimal(-50_000)), NavMark(NOW, Decimal(50_000)))
    _, paid_in = after(Transfer(NOW, Decimal(1000)), NavMark(NOW, NAV - 1500))

    assert paid_out == []
    assert [found.reason for found in paid_in] == [Reason.DAILY_LOSS]


def test_an_account_that_has_nothing_left_is_locked_for_every_reason() -> None:
    losses, latches = after(NavMark(NOW, Decimal(-5)))

    assert [found.reason for found in latches] == [Reason.DAILY_LOSS, Reason.DRAWDOWN]
    assert [found.reason for found in after(NavMark(NOW, Decimal(0)), losses=losses)[1]] == [Reason.DAILY_LOSS, Reason.DRAWDOWN]


def test_an_event_that_comes_late_starts_no_day() -> None:
    losses, _ = after(*marks(("2024-06-12 22:00", 99_000), ("2024-06-12 20:00", 98_900)))

    assert (losses.day, losses.day_nav) == (date(2024, 6, 13), 100_000)


@pytest.mark.parametrize("seed", range(5))
def test_on_a_losing_path_the_lock_comes_with_the_mark_that_reaches_the_limit(seed: int) -> None:
    """Three weeks of quarter hours, against a plain count of each New York day."""
    chance, start = random.Random(seed), utc("2024-03-03 22:00")
    path, nav = [], NAV
    for quarter in range(3 * 7 * 96):
        nav += Decimal(chance.randint(-170, 140))
        path.append(NavMark(start + timedelta(minutes=15 * quarter), nav))
    rules = limits(max_daily_loss="0.02", max_drawdown="0.9", cooldown_days=0)

    _, latches = after(*path, rules=rules)

    first: dict[date, datetime] = {}
    opening: dict[date, Decimal] = {trading_day(start): NAV}
    before = NAV
    for mark in path:
        day = trading_day(mark.time)
        base = opening.setdefault(day, before)
        if mark.nav <= base * Decimal("0.98"):
            first.setdefault(day, mark.time)
        before = mark.nav
    assert first, "the path must lose"
    for day, moment in first.items():
        locked = next(found for found in latches if trading_day(found.since) == day)
        assert locked.since == moment
        assert locked.until == later_day_start(moment, 1) > moment
        assert day_start(trading_day(locked.until)) == locked.until


@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 200_000)), min_size=1, max_size=30))
def test_whatever_happens_a_mark_below_the_limits_of_its_day_and_peak_latches(steps: list[tuple[int, int]]) -> None:
    losses, time = Losses.begin(NAV, NOW), NOW
    for minutes, nav in steps:
        time += timedelta(minutes=minutes)
        base = losses.nav if trading_day(time) > losses.day else losses.day_nav
        peak = max(losses.peak_nav, Decimal(nav))
        losses, latches = fold(losses, NavMark(time, Decimal(nav)), LIMITS)
        reasons = {found.reason for found in latches}
        assert (Reason.DAILY_LOSS in reasons) == (base - nav >= LIMITS.max_daily_loss * base)
        assert (Reason.DRAWDOWN in reasons) == (peak - nav >= LIMITS.max_drawdown * peak)
