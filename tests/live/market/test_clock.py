"""What time it is for a trader, and waiting for it."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from mbats.live.market.clock import BrokerTimeClock, MachineClock, SkewLevel
from mbats.oanda.clock import BrokerClock

NOON = datetime(2024, 3, 5, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def measured(ahead: float) -> MachineClock:
    """A clock whose broker has sent dates of a clock that is so many seconds ahead of ours, at every tenth of a second."""
    broker = BrokerClock()
    for tenths in range(20):
        sent = NOON.timestamp() + tenths / 10
        shown = datetime.fromtimestamp(int(sent + 0.01 + ahead), UTC)
        broker.observe_date(format_datetime(shown, usegmt=True), sent=sent, received=sent + 0.02)
    return MachineClock(broker)


@pytest.mark.parametrize(
    ("ahead", "level"),
    [
        (0.0, SkewLevel.OK),
        (0.8, SkewLevel.OK),
        (-0.8, SkewLevel.OK),
        (1.5, SkewLevel.WARN),
        (-1.5, SkewLevel.WARN),
        (4.5, SkewLevel.WARN),
        (5.5, SkewLevel.BLOCK),
        (30.0, SkewLevel.BLOCK),
        (-30.0, SkewLevel.BLOCK),
    ],
)
def test_more_than_a_second_between_the_clocks_warns_and_more_than_five_block(ahead, level):
    check = measured(ahead).skew_check()

    assert check.level is level
    assert check.seconds == pytest.approx(ahead, abs=0.15)


def test_an_unmeasured_clock_blocks_nothing():
    assert MachineClock(BrokerClock()).skew_check().level is SkewLevel.OK
    assert MachineClock().skew_check().seconds is None


def test_old_prices_alone_do_not_make_a_clock_wrong():
    broker = BrokerClock()
    broker.observe_time(datetime.now(UTC) - timedelta(days=2))  # Friday's last price, on a Sunday

    assert MachineClock(broker).skew_check().level is SkewLevel.OK


def test_a_price_from_the_future_shows_that_our_clock_is_behind():
    broker = BrokerClock()
    broker.observe_time(datetime.now(UTC) + timedelta(seconds=30))

    assert MachineClock(broker).skew_check().level is SkewLevel.BLOCK


def test_the_machines_clock_is_not_moved_by_what_the_broker_shows():
    clock = MachineClock(machine=lambda: NOON.timestamp())

    clock.observe(NOON + 100 * SECOND)

    assert clock.now() == NOON
    assert clock.steady


def test_the_brokers_time_never_goes_back_and_is_not_measured_against_ours():
    clock = BrokerTimeClock(NOON)

    clock.observe(NOON + SECOND)
    clock.observe(NOON - SECOND)

    assert clock.now() == NOON + SECOND
    assert not clock.steady
    assert clock.skew_check().level is SkewLevel.OK


def test_who_waits_for_the_brokers_time_is_woken_by_it():
    clock = BrokerTimeClock(NOON)
    reached: list[bool] = []
    waiting = threading.Thread(target=lambda: reached.append(clock.wait_until(NOON + 2 * SECOND, 30)))
    waiting.start()

    clock.observe(NOON + SECOND)
    assert not reached
    clock.observe(NOON + 2 * SECOND)
    waiting.join(20)

    assert reached == [True]


def test_a_moment_that_has_come_is_not_waited_for():
    assert BrokerTimeClock(NOON).wait_until(NOON, 30)
    assert MachineClock().wait_until(NOON, 30)


@pytest.mark.parametrize("clock", [BrokerTimeClock(NOON), MachineClock()], ids=["broker", "machine"])
def test_a_wait_ends_after_its_time_out(clock):
    assert not clock.wait_until(datetime(2200, 1, 1, tzinfo=UTC), 0.01)
    assert not clock.wait_until(None, 0.01)


@pytest.mark.parametrize("make", [lambda: BrokerTimeClock(NOON), MachineClock], ids=["broker", "machine"])
def test_whoever_changes_something_and_wakes_is_noticed_even_before_the_wait_begins(make):
    clock = make()
    changed = threading.Event()
    changed.set()
    clock.wake()

    assert not clock.wait_until(None, 600, unless=changed.is_set)

    changed.clear()
    ended = threading.Thread(target=clock.wait_until, args=(None, 600), kwargs={"unless": changed.is_set})
    ended.start()
    changed.set()
    clock.wake()
    ended.join(20)
    assert not ended.is_alive()


def test_a_machines_clock_that_is_set_while_somebody_waits_is_noticed():
    shown = [NOON.timestamp()]
    clock = MachineClock(machine=lambda: shown[0])
    reached: list[bool] = []
    waiting = threading.Thread(target=lambda: reached.append(clock.wait_until(NOON + 3600 * SECOND, 600)))
    waiting.start()

    shown[0] += 3600  # nobody is told
    waiting.join(20)

    assert reached == [True]


def test_the_machines_clock_is_waited_for_no_longer_than_needed():
    clock = MachineClock()
    moment = clock.now() + timedelta(seconds=0.05)

    assert clock.wait_until(moment, 600)
    assert time.time() >= moment.timestamp()
