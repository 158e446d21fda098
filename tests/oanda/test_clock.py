"""How far the broker's clock is from ours."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from fakes import ACCOUNT, TOKEN
from faulty_server import FaultyServer, answer
from pydantic import SecretStr

from mbats.errors import OandaUnavailable
from mbats.oanda.account_client import AccountClient
from mbats.oanda.clock import BrokerClock
from mbats.oanda.reads import Reads
from mbats.oanda.sessions import Sessions

NOON = datetime(2024, 3, 5, 12, tzinfo=UTC).timestamp()


def date_at(moment: float) -> str:
    return format_datetime(datetime.fromtimestamp(int(moment), UTC), usegmt=True)


def measured(clock: BrokerClock, ahead: float, *moments: float, trip: float = 0.05) -> None:
    """Answers of a broker whose clock is ahead, to requests that left at these moments and took `trip` seconds."""
    for moment in moments:
        clock.observe_date(date_at(moment + trip / 2 + ahead), sent=moment, received=moment + trip)


def test_nothing_is_known_before_the_first_answer():
    assert BrokerClock().skew() is None


@pytest.mark.parametrize("ahead", [30.0, -30.0, 0.0, 1.4])
def test_one_date_says_within_a_second_how_far_the_broker_is_ahead(ahead):
    clock = BrokerClock()
    measured(clock, ahead, NOON + 0.3)

    skew = clock.skew()

    assert skew.least <= ahead <= skew.most
    assert abs(skew.seconds - ahead) <= skew.margin <= 0.55


def test_many_dates_say_it_more_exactly_than_their_whole_seconds():
    clock = BrokerClock()
    measured(clock, 1.4, *[NOON + n * 7.13 for n in range(30)])

    skew = clock.skew()

    assert skew.margin < 0.1
    assert skew.seconds == pytest.approx(1.4, abs=skew.margin)


def test_a_clock_that_was_set_is_measured_anew_from_the_first_contradiction():
    clock = BrokerClock()
    measured(clock, 0.0, *[NOON + n * 7.13 for n in range(10)])
    measured(clock, -30.0, NOON + 100)

    assert clock.skew().seconds == pytest.approx(-30, abs=0.6)


def test_a_price_shows_that_the_broker_is_ahead_but_never_that_it_is_behind():
    clock = BrokerClock(now=lambda: NOON)
    clock.observe_time(datetime.fromtimestamp(NOON - 172_800, UTC))  # of Friday, on Sunday
    assert clock.skew().most == float("inf")

    clock.observe_time(datetime.fromtimestamp(NOON + 6, UTC))
    assert clock.skew().seconds == pytest.approx(6)

    measured(clock, 6.0, NOON + 1)
    assert clock.skew().seconds == pytest.approx(6, abs=0.6)


def test_prices_do_not_push_dates_out_of_memory():
    clock = BrokerClock(now=lambda: NOON)
    measured(clock, -30.0, NOON)
    for _ in range(1000):
        clock.observe_time(datetime.fromtimestamp(NOON - 31, UTC))

    assert clock.skew().seconds == pytest.approx(-30, abs=0.6)


@pytest.mark.parametrize("header", [None, "", "yesterday", "Tue, 99 Mar 2024 12:00:00 GMT"])
def test_an_answer_without_a_readable_date_measures_nothing(header):
    clock = BrokerClock()
    clock.observe_date(header, sent=NOON, received=NOON)

    assert clock.skew() is None


def test_every_answer_is_a_measurement_even_an_error():
    server = FaultyServer()
    server.otherwise(answer(500, b"", f"Date: {date_at(NOON + 30)}"))
    sessions = Sessions(server.url, SecretStr(TOKEN), connections_per_second=50, clock=BrokerClock(now=lambda: NOON))

    with pytest.raises(OandaUnavailable):
        AccountClient(sessions, ACCOUNT, reads=Reads(sessions, attempts=1)).summary()

    assert sessions.clock.skew().least == 30
    sessions.close()
    server.close()
