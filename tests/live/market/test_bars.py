"""The bar desk at a real simulator: which bars it delivers, when, and what it lives through."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
from samples import sample_instrument
from simulator.running import ACCOUNT

from mbats.errors import NoBars
from mbats.live.wire import LiveBar
from mbats.market import Bars, Granularity, bar_ends, parse_utc, to_datetime
from mbats.trading.feeds import conversion_columns


def asked(floor: Any, symbol: str, granularity: str, start: str, last: str) -> Bars:
    """The bars that start in (start, last], as a download has them."""
    begin, end = parse_utc(start), parse_utc(last)
    pages = floor.client.candles(symbol, Granularity(granularity), start=begin, end=end + timedelta(seconds=1))
    bars = Bars.concatenate(list(pages))
    return bars[bars.time > np.datetime64(begin.replace(tzinfo=None), "us")]


def columns(bars: list[LiveBar]) -> Bars:
    """Delivered bars in the form of a download."""
    sides = [list(zip(*(getattr(bar, side) for bar in bars), strict=True)) for side in ("bid", "ask")]
    prices: list[Any] = [np.array(column) for side in sides for column in side]
    times = np.array([bar.time.replace(tzinfo=None) for bar in bars], "datetime64[us]")
    return Bars(times, *prices, np.array([bar.volume for bar in bars], np.int64))


def collect(floor: Any, symbol: str, last: str) -> list[LiveBar]:
    """A symbol's bars as they are delivered, up to the one that starts at `last`; each delivery is checked by itself."""
    found: list[LiveBar] = []
    while not found or found[-1].time < parse_utc(last):
        _, bars = floor.next()
        found += [bars[symbol]] if symbol in bars else []
    return found


@pytest.mark.proves("R14")
def test_every_minute_is_delivered_once_as_a_download_has_it_with_the_conversions_of_a_backtest(start_floor):
    floor = start_floor("2024-05-14T10:00:00Z", options={"currency": "EUR"})
    floor.advance(30)
    symbols = ["GBP_USD", "AUD_USD"]
    floor.subscribe(symbols, "M1", after="2024-05-14T09:50:00Z")
    moments = [floor.next() for _ in range(9)]

    for _ in range(3):
        floor.advance(60)
        moments.append(floor.next())
    floor.advance(600)
    moments += [floor.next() for _ in range(10)]

    ends = [parse_utc("2024-05-14T09:52:00Z") + timedelta(minutes=n) for n in range(22)]
    assert [completed_at for completed_at, _ in moments] == ends
    assert all(list(bars) == symbols for _, bars in moments)
    links = {"EUR_USD": asked(floor, "EUR_USD", "M1", "2024-05-14T09:00:00Z", "2024-05-14T10:12:00Z")}
    for symbol in symbols:
        delivered = [bars[symbol] for _, bars in moments]
        expected = asked(floor, symbol, "M1", "2024-05-14T09:50:00Z", "2024-05-14T10:12:00Z")
        assert columns(delivered).fingerprint() == expected.fingerprint()
        _, at_close = conversion_columns(sample_instrument(symbol), expected, "EUR", links)
        assert [bar.conversion for bar in delivered] == at_close.tolist()


@pytest.mark.parametrize(
    ("friday", "tuesday", "days_end"),
    [
        ("2024-03-08T16:30:00Z", "2024-03-12T22:30:00Z", (22, 21, 21)),
        ("2024-11-01T16:30:00Z", "2024-11-05T22:30:00Z", (21, 22, 22)),
    ],
)
def test_over_a_weekend_on_which_the_clocks_change_each_granularity_has_its_own_bars(start_floor, friday, tuesday, days_end):
    floor = start_floor(friday)
    lengths = ["M15", "H1", "H4", "D"]
    got: dict[str, list[tuple[datetime, dict[str, LiveBar]]]] = {length: [] for length in lengths}
    before = parse_utc(friday) - timedelta(days=7)
    firsts = {}
    for length in lengths:
        past = Bars.concatenate(list(floor.client.candles("EUR_USD", Granularity(length), start=before)))
        firsts[length] = to_datetime(past.time[-1])

        def take(at: datetime, bars: dict[str, LiveBar], length: str = length) -> None:
            got[length].append((at, bars))
            floor.taken.put((at, bars))

        floor.desk.subscribe(length, ["EUR_USD"], Granularity(length), {"EUR_USD": firsts[length]}, take)

    while floor.now < parse_utc(tuesday):
        floor.advance(4 * 3600 if floor.now.weekday() == 5 else 3600)

    for length in lengths:
        expected = asked(floor, "EUR_USD", length, firsts[length].isoformat(), tuesday)
        while len(got[length]) < len(expected):
            floor.next()
        delivered = columns([bars["EUR_USD"] for _, bars in got[length]])
        assert delivered.fingerprint() == expected.fingerprint()
        ends = [to_datetime(end) for end in bar_ends(Granularity(length), expected.time)]
        assert [at for at, _ in got[length]] == ends
    assert tuple(at.hour for at, _ in got["D"]) == days_end  # 17:00 New York of Friday, Monday and Tuesday


@pytest.mark.proves("R14")
def test_a_candle_that_is_over_but_not_complete_is_waited_for(start_scripted):
    floor = start_scripted(candle_lag_seconds=7)
    floor.simulator.price("1.08000", "1.08010")
    floor.subscribe(["EUR_USD"], "M1")
    floor.has_looked(1)

    floor.advance(60)
    floor.has_looked()
    floor.advance(6)
    floor.has_looked()
    assert floor.taken.empty()
    floor.advance(1)

    completed_at, bars = floor.next()
    assert completed_at == parse_utc("2024-05-14T10:01:00Z")
    assert bars["EUR_USD"].bid == (1.08, 1.08, 1.08, 1.08)


def test_with_nothing_known_the_first_bar_is_the_one_that_completes_next(start_floor):
    floor = start_floor("2024-05-14T10:00:00Z")
    floor.advance(30)
    floor.subscribe(["EUR_USD"], "M1")
    floor.has_looked(1)

    floor.advance(31)

    assert floor.next()[1]["EUR_USD"].time == parse_utc("2024-05-14T10:00:00Z")


def test_a_minute_without_a_price_is_none_as_soon_as_a_later_one_is_shown(start_scripted):
    floor = start_scripted()
    for name in ("EUR_USD", "GBP_USD"):
        floor.simulator.price("1.08000", "1.08010", name)
    floor.advance(60)
    floor.subscribe(["EUR_USD", "GBP_USD"], "M1", after="2024-05-14T10:00:00Z")
    floor.simulator.price("1.08100", "1.08110")  # only the euro has a price in the second minute
    floor.advance(60)
    floor.has_looked()
    assert floor.taken.empty()  # the pound's could still come

    floor.simulator.price("1.27000", "1.27010", "GBP_USD")
    floor.advance(5)

    completed_at, bars = floor.next()
    assert (completed_at, list(bars)) == (parse_utc("2024-05-14T10:02:00Z"), ["EUR_USD"])
    floor.advance(65)
    completed_at, bars = floor.next()
    assert (completed_at, list(bars)) == (parse_utc("2024-05-14T10:03:00Z"), ["GBP_USD"])
    assert floor.desk.health().late == 0


def test_a_symbol_that_has_no_price_is_waited_for_ten_seconds_and_no_longer(start_scripted):
    floor = start_scripted()
    for name in ("EUR_USD", "GBP_USD"):
        floor.simulator.price("1.08000", "1.08010", name)
    floor.advance(60)
    floor.subscribe(["EUR_USD", "GBP_USD"], "M1", after="2024-05-14T10:00:00Z")
    floor.simulator.price("1.08100", "1.08110")
    floor.advance(69)
    floor.has_looked()
    assert floor.taken.empty()

    floor.advance(1)

    completed_at, bars = floor.next()
    assert (completed_at, list(bars)) == (parse_utc("2024-05-14T10:02:00Z"), ["EUR_USD"])


@pytest.mark.proves("R14")
def test_while_requests_fail_at_random_no_bar_is_lost_doubled_or_out_of_order(start_floor):
    floor = start_floor("2024-05-14T10:00:00Z")
    floor.subscribe(["EUR_USD", "USD_JPY"], "M1", after="2024-05-14T09:59:00Z")
    rules = [
        floor.simulator.fault({"do": "answer", "status": 503}, path="*/candles*", probability=0.1),
        floor.simulator.fault({"do": "answer", "status": 429}, path="*/candles*", probability=0.1),
        floor.simulator.fault({"do": "reset", "when": "after"}, path="*/candles*", probability=0.05),
        floor.simulator.fault("garble", path="*/candles*", probability=0.05),
        floor.simulator.fault("stale", path="*/candles*", probability=0.1),
    ]

    moments = []
    for seconds, complete in ((60, 1), (60, 1), (61, 1), (299, 5), (60, 1), (30, 0), (30, 1), (240, 4), (60, 1)):
        floor.advance(seconds)
        moments += [floor.next() for _ in range(complete)]

    starts = [parse_utc("2024-05-14T10:00:00Z") + timedelta(minutes=n) for n in range(15)]
    assert [bars["EUR_USD"].time for _, bars in moments] == starts
    assert [bars["USD_JPY"].time for _, bars in moments] == starts
    assert sum(floor.simulator.hits(rule) for rule in rules) > 3
    assert floor.desk.health().failures > 0
    assert floor.desk.health().crashes == 0


def test_a_request_that_is_never_answered_and_connections_that_are_cut_end_nothing(start_floor):
    floor = start_floor("2024-05-14T10:00:00Z")
    floor.subscribe(["EUR_USD"], "M1", after="2024-05-14T09:59:00Z")
    floor.has_looked(1)
    hang = floor.simulator.fault({"do": "hang", "when": "before"}, path="*/candles*", times=1)

    floor.advance(60)
    first = floor.next()
    floor.simulator.deed("disconnect")
    floor.advance(60)
    second = floor.next()

    assert [bars["EUR_USD"].time for _, bars in (first, second)] == [
        parse_utc("2024-05-14T10:00:00Z"),
        parse_utc("2024-05-14T10:01:00Z"),
    ]
    assert floor.simulator.hits(hang) == 1
    assert (floor.desk.health().crashes, floor.desk.health().failing_since) == (0, None)


def test_a_refused_token_makes_no_storm_of_requests_and_is_told(start_floor):
    floor = start_floor("2024-05-14T10:00:00Z")
    floor.subscribe(["EUR_USD"], "M1", after="2024-05-14T09:59:00Z")
    floor.has_looked(0)
    rule = floor.simulator.fault({"do": "answer", "status": 401}, path="*/candles*")
    while not floor.desk.health().denied:
        floor.advance(60)
        floor.clock.wait_until(None, 0.05)
    before = floor.simulator.hits(rule)

    for _ in range(5):
        floor.advance(60)
        floor.clock.wait_until(None, 0.1)

    assert floor.simulator.hits(rule) == before == 1
    assert floor.desk.health().failing_since is not None
    assert "401" in floor.desk.health().last_error

    floor.simulator.admin("DELETE", "/faults")
    floor.subscribe(["USD_JPY"], "M1", after="2024-05-14T09:59:00Z", name="second")  # which lets it look at once
    times = floor.starts("USD_JPY", "2024-05-14T10:04:00Z")
    assert times[0] == parse_utc("2024-05-14T10:00:00Z")
    assert not floor.desk.health().denied


def test_a_name_that_the_broker_does_not_know_keeps_nobody_from_their_bars(start_floor):
    floor = start_floor("2024-05-14T10:00:00Z", options={"offered": ["EUR_USD", "XAU_USD"]})
    floor.subscribe(["XAU_USD", "EUR_USD"], "M1", after="2024-05-14T09:59:00Z")

    floor.advance(60)

    completed_at, bars = floor.next()
    assert (completed_at, list(bars)) == (parse_utc("2024-05-14T10:01:00Z"), ["EUR_USD"])
    assert floor.desk.health().refused == ("XAU_USD",)


def test_one_who_breaks_while_taking_bars_is_counted_and_the_others_get_theirs(start_floor):
    floor = start_floor("2024-05-14T10:00:00Z")

    def broken(completed_at: datetime, bars: dict[str, LiveBar]) -> None:
        raise ZeroDivisionError("in somebody else's code")

    after = {"EUR_USD": parse_utc("2024-05-14T09:59:00Z")}
    floor.desk.subscribe("a-broken-one", ["EUR_USD"], Granularity.M1, after, broken)
    floor.subscribe(["EUR_USD"], "M1", after="2024-05-14T09:59:00Z")

    floor.advance(120)

    assert floor.starts("EUR_USD", "2024-05-14T10:01:00Z") == [after["EUR_USD"] + timedelta(minutes=n) for n in (1, 2)]
    assert floor.desk.health().crashes == 2
    assert "ZeroDivisionError" in floor.desk.health().last_error or floor.desk.health().alive


def test_nothing_is_delivered_under_a_name_that_was_given_up(start_floor):
    floor = start_floor("2024-05-14T10:00:00Z")
    gone: list[datetime] = []
    after = {"EUR_USD": parse_utc("2024-05-14T09:59:00Z")}
    floor.desk.subscribe("gone", ["EUR_USD"], Granularity.M1, after, lambda at, bars: gone.append(at))
    floor.subscribe(["EUR_USD"], "M1", after="2024-05-14T09:59:00Z")
    floor.advance(60)
    floor.next()

    floor.desk.unsubscribe("gone")
    floor.advance(60)
    floor.next()

    assert len(gone) <= 1
    assert floor.desk.health().subscriptions == 1


def test_who_gives_up_while_taking_a_bar_gets_none_of_those_that_were_ready_with_it(start_floor):
    floor = start_floor("2024-05-14T10:00:00Z")
    taken: list[datetime] = []

    def take(completed_at: datetime, bars: dict[str, LiveBar]) -> None:
        taken.append(completed_at)
        floor.desk.unsubscribe("first")

    floor.desk.subscribe("first", ["EUR_USD"], Granularity.M1, {"EUR_USD": parse_utc("2024-05-14T09:50:00Z")}, take)
    floor.subscribe(["EUR_USD"], "M1", after="2024-05-14T09:50:00Z")

    assert floor.starts("EUR_USD", "2024-05-14T09:59:00Z")[-1] == parse_utc("2024-05-14T09:59:00Z")
    assert taken == [parse_utc("2024-05-14T09:52:00Z")]


def test_a_bar_is_converted_by_one_of_long_before_if_the_converting_pair_had_no_price_since(start_scripted):
    floor = start_scripted(options={"currency": "EUR"})
    floor.simulator.price("1.24990", "1.25010")
    floor.advance(120)
    floor.simulator.price("1.30000", "1.30010", "GBP_USD")
    floor.subscribe(["GBP_USD"], "M1", after="2024-05-14T10:01:00Z")

    floor.advance(71)

    completed_at, bars = floor.next()
    assert completed_at == parse_utc("2024-05-14T10:03:00Z")
    assert bars["GBP_USD"].conversion == pytest.approx(1 / 1.25)


def test_one_request_asks_for_all_symbols_of_all_deployments(start_floor):
    floor = start_floor("2024-05-14T10:00:00Z")
    floor.advance(299)
    for name, length in (("one", "M1"), ("five", "M5")):
        floor.subscribe(["EUR_USD", "USD_JPY", "GBP_USD"], length, name=name)
    floor.has_looked(1)
    floor.simulator.admin("DELETE", "/journal")

    floor.advance(1)
    moments = [floor.next(), floor.next()]

    assert {len(bars) for _, bars in moments} == {3}
    requests = [entry["path"] for entry in floor.simulator.journal() if "candles" in entry["path"]]
    assert set(requests) == {f"/v3/accounts/{ACCOUNT}/candles/latest"}


def test_a_symbol_whose_profit_nothing_converts_is_refused_before_anything_is_asked(start_floor):
    floor = start_floor("2024-05-14T10:00:00Z", options={"offered": ["EUR_USD", "EUR_JPY"]})

    with pytest.raises(NoBars, match="EUR_JPY earns JPY, and neither JPY_USD nor USD_JPY is offered"):
        floor.subscribe(["EUR_JPY"], "M1")

    assert floor.desk.health().subscriptions == 0
