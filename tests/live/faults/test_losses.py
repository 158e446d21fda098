"""Losses lock new exposure: until the next trading day of New York, or until a person resumes (R29)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from live.faults.records import risk_events, until
from live.trading import FAST, Trader

from mbats.live.gate import CommandKind
from mbats.live.wire import Status


@pytest.fixture
def patient(start_trader: Callable[..., Trader]) -> Trader:
    return start_trader(options=replace(FAST, signal_lives=timedelta(days=10)))


def lose(trader: Trader, units: int = 50_000) -> None:
    """A round trip that loses a cent on each unit."""
    trader.show("1.08500", "1.08512")
    trader.ended(trader.submit(units), Status.COMPLETED)
    trader.show("1.08000", "1.08012")
    trader.show("1.07600", "1.07612")
    trader.settle()
    trader.ended(trader.submit(-units), Status.COMPLETED)


# A Tuesday; the Fridays on whose weekends New York's daylight saving ends and begins.
DAYS = [
    ("2024-05-14T14:00:00Z", "2024-05-14T20:55:00Z", "2024-05-14T21:00:00Z", "2024-05-14T21:05:00Z"),
    ("2024-11-01T14:00:00Z", "2024-11-01T20:55:00Z", "2024-11-03T22:00:00Z", "2024-11-03T22:05:00Z"),
    ("2025-03-07T14:00:00Z", "2025-03-07T21:55:00Z", "2025-03-09T21:00:00Z", "2025-03-09T21:05:00Z"),
]


@pytest.mark.proves("R29")
@pytest.mark.parametrize(("begins", "evening", "unlocks", "after"), DAYS, ids=["a Tuesday", "summer ends", "summer begins"])
def test_a_days_loss_locks_until_the_next_trading_day_of_new_york_begins(
    patient: Trader, begins: str, evening: str, unlocks: str, after: str
) -> None:
    patient.deploy(max_daily_loss="0.004")
    until(patient, begins)
    patient.show("1.08500", "1.08512")
    patient.ended(patient.submit(50_000), Status.COMPLETED)

    patient.show("1.07600", "1.07612")  # 456 of 100,000 are lost, though nothing is closed
    (latch,) = patient.wait_for(lambda: risk_events(patient, "latch"))
    assert (latch.code, latch.deployment) == ("daily_loss", "alpha")
    assert latch.until == datetime.fromisoformat(unlocks)
    patient.minute()
    assert patient.ended(patient.submit(1000), Status.REJECTED).reason == "daily_loss"
    patient.ended(patient.submit(-50_000), Status.COMPLETED)

    until(patient, evening)
    patient.show("1.07600", "1.07612")
    assert patient.ended(patient.submit(1000), Status.REJECTED).reason == "daily_loss"
    assert len(patient.orders_sent()) == 1
    until(patient, after)
    patient.show("1.07601", "1.07613")
    patient.ended(patient.submit(1000), Status.COMPLETED)


@pytest.mark.proves("R29")
@pytest.mark.parametrize("lives", ["one life", "a restart between"])
def test_a_fall_from_the_peak_locks_until_a_person_resumes(patient: Trader, lives: str) -> None:
    limits: dict[str, Any] = {"max_drawdown": "0.004", "max_daily_loss": "0.5"}
    patient.deploy(**limits)
    patient.ended(patient.submit(50_000), Status.COMPLETED)
    session = "s1"
    if lives == "a restart between":  # the peak is remembered
        patient.settle()
        patient.stop()
        patient.again()
        session = "s2"
        patient.deploy(session=session, **limits)

    patient.show("1.07600", "1.07612")
    (latch,) = patient.wait_for(lambda: risk_events(patient, "latch"))
    assert (latch.code, latch.until) == ("drawdown", None)
    until(patient, "2024-05-20T10:00:00Z")
    patient.show("1.07600", "1.07612")
    assert patient.ended(patient.submit(1000, session=session), Status.REJECTED).reason == "drawdown"

    patient.command(CommandKind.RESUME, "alpha")
    patient.minute()
    patient.ended(patient.submit(1000, session=session), Status.COMPLETED)


@pytest.mark.proves("R29")
def test_trades_that_lose_one_after_the_other_lock_for_the_cooldown(patient: Trader) -> None:
    patient.deploy(max_loss_streak=3, max_daily_loss="0.5", max_drawdown="0.9", cooldown_days=2, cooldown_hours=1)
    for number in range(3):
        until(patient, f"2024-05-14T1{number + 1}:00:00Z")
        assert risk_events(patient, "latch") == []
        lose(patient, 1000)

    (latch,) = patient.wait_for(lambda: risk_events(patient, "latch"))
    assert (latch.code, latch.until) == ("loss_streak", datetime.fromisoformat("2024-05-15T21:00:00Z"))
    until(patient, "2024-05-15T20:55:00Z")
    patient.show("1.07600", "1.07612")
    assert patient.ended(patient.submit(1000), Status.REJECTED).reason == "loss_streak"
    until(patient, "2024-05-15T21:05:00Z")
    patient.show("1.07601", "1.07613")
    patient.ended(patient.submit(1000), Status.COMPLETED)


@pytest.mark.proves("R29")
def test_a_winner_ends_the_streak_and_money_that_is_taken_out_is_no_loss(patient: Trader) -> None:
    patient.deploy(max_loss_streak=2, max_daily_loss="0.05", max_drawdown="0.05")
    lose(patient, 1000)
    patient.minute()
    patient.show("1.07600", "1.07612")
    patient.ended(patient.submit(1000), Status.COMPLETED)
    patient.show("1.08500", "1.08512")
    patient.ended(patient.submit(-1000), Status.COMPLETED)
    patient.simulator.deed("transfer", account=patient.owner.id, amount="-20000")
    patient.wait_for(lambda: patient.owner._account.books.balance < 81_000)
    patient.minute()
    lose(patient, 1000)
    patient.minute()

    patient.ended(patient.submit(1000), Status.COMPLETED)

    assert risk_events(patient, "latch") == []
