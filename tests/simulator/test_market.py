"""The market as the exchange sees it: the last price of any moment, all prices in order, and what is done to it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbats.market import MAJORS
from mbats.simulator import market as market_module
from mbats.simulator.errors import Refusal
from mbats.simulator.instruments import terms
from mbats.simulator.market import Market
from mbats.simulator.prices import last_tick
from mbats.simulator.quotes import LIQUIDITY, Level
from mbats.simulator.sample import SampleMarket
from mbats.simulator.scripted import ScriptedSource

BEGIN = np.datetime64("2024-05-16T20:00", "us")  # Thursday, an hour before the day changes
NOON = np.datetime64("2024-05-16T12:00", "us")
MICROSECOND = np.timedelta64(1, "us")


def utc(text: str) -> np.datetime64:
    return np.datetime64(text, "us")


def seconds(amount: float) -> np.timedelta64:
    return np.timedelta64(round(amount * 1e6), "us")


@pytest.fixture(scope="module")
def majors(market) -> Market:
    return Market(market)


@pytest.fixture
def scripted() -> Market:
    return Market(ScriptedSource(["EUR_USD", "USD_JPY", "EUR_GBP"]))


def price(market: Market, time: str, bid: str, ask: str, instrument: str = "EUR_USD", **more: object) -> None:
    market.apply({"change": "tick", "instrument": instrument, "time": time, "bid": bid, "ask": ask} | more)


def rows(market: Market, names: list[str], start: np.datetime64, end: np.datetime64) -> list[tuple]:
    """All ticks as (time, name, bid, ask)."""
    found = []
    for batch in market.ticks(names, start, end):
        columns = (batch.time, batch.which, batch.bid, batch.ask)
        found += [(time, batch.names[which], bid, ask) for time, which, bid, ask in zip(*columns, strict=True)]
    return found


# --- Prices in order --------------------------------------------------------------------------------------------------------


def test_ticks_of_all_pairs_come_in_order_and_are_those_of_the_source(majors, market):
    start, end = NOON, NOON + seconds(7200)

    found = rows(majors, list(MAJORS), start, end)

    assert [row[0] for row in found] == sorted(row[0] for row in found)
    for name in ("EUR_USD", "NZD_USD"):
        ticks = market.ticks(name, start, end)
        own = [row for row in found if row[1] == name]
        assert [row[0] for row in own] == list(ticks.time)
        assert [row[2] for row in own] == ticks.bid.tolist()
        assert [row[3] for row in own] == ticks.ask.tolist()


@settings(max_examples=25)
@given(st.lists(st.integers(0, 6 * 3600 * 10**6), min_size=1, max_size=6))
def test_time_can_be_cut_into_any_pieces(majors, cuts):
    names = ["USD_CHF", "EUR_USD"]
    whole = rows(majors, names, BEGIN, BEGIN + seconds(6 * 3600))
    moments = [BEGIN, *(BEGIN + np.timedelta64(cut, "us") for cut in sorted(cuts)), BEGIN + seconds(6 * 3600)]

    pieces = [row for start, end in pairwise(moments) for row in rows(majors, names, start, end)]

    assert pieces == whole


def test_nothing_comes_while_the_market_is_shut(majors):
    found = rows(majors, ["EUR_USD"], utc("2024-05-17T20:00"), utc("2024-05-19T22:00"))

    times = np.array([row[0] for row in found])
    closed = (times >= utc("2024-05-17T20:58")) & (times < utc("2024-05-19T21:04"))
    assert len(times) > 1000
    assert not closed.any()


def test_batches_are_of_a_size_that_fits_into_memory(majors, monkeypatch):
    monkeypatch.setattr(market_module, "MOST_ROWS", 100)

    batches = list(majors.ticks(["EUR_USD"], NOON, NOON + seconds(600)))

    assert max(map(len, batches)) == 100
    assert sum(map(len, batches)) == len(majors.source.ticks("EUR_USD", NOON, NOON + seconds(600)))


def test_no_pairs_and_no_time_give_no_ticks(majors):
    assert not list(majors.ticks([], NOON, NOON + seconds(60)))
    assert not list(majors.ticks(["EUR_USD"], NOON, NOON))


def test_prices_of_one_moment_come_in_the_order_of_the_names(scripted):
    price(scripted, "2024-05-16T12:00:01Z", "155", "155.01", "USD_JPY")
    price(scripted, "2024-05-16T12:00:01Z", "1.08", "1.09")
    price(scripted, "2024-05-16T12:00:01Z", "1.07", "1.08")

    found = rows(scripted, ["EUR_USD", "USD_JPY"], NOON, NOON + seconds(60))

    assert [(name, bid) for _, name, bid, _ in found] == [("EUR_USD", 108000), ("EUR_USD", 107000), ("USD_JPY", 155000)]


# --- The last price -----------------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.integers(0, 20 * 86_400 * 10**6), st.sampled_from(MAJORS))
def test_the_quote_is_the_last_price_before_now_whatever_was_asked_before(majors, market, microsecond, name):
    now = utc("2024-03-01") + np.timedelta64(microsecond, "us")

    quote = majors.quote(name, now)

    time, bid, ask = last_tick(market, name, now)
    point = Decimal(1).scaleb(-terms(name).display_precision)
    assert (quote.time, quote.bid, quote.ask) == (time, bid * point, ask * point)
    assert quote.time < now
    assert quote.bids == (Level(quote.bid, LIQUIDITY),)


def test_a_price_counts_from_the_moment_after_it(scripted):
    price(scripted, "2024-05-16T12:00:01Z", "1.08", "1.09")

    assert scripted.quote("EUR_USD", NOON + seconds(1)) is None
    assert scripted.quote("EUR_USD", NOON + seconds(1) + MICROSECOND).bid == Decimal("1.08000")


def test_the_last_price_stands_over_a_weekend_and_is_not_tradeable(majors):
    friday, saturday = (majors.quote("EUR_USD", utc(f"2024-05-{day}T20:30")) for day in (17, 18))
    opened = majors.quote("EUR_USD", utc("2024-05-19T21:06"))

    assert (friday.tradeable, saturday.tradeable, opened.tradeable) == (True, False, True)
    assert str(saturday.time)[:16] == "2024-05-17T20:59"
    assert opened.time > utc("2024-05-19T21:04")


def test_a_pair_that_is_not_listed_has_no_quote(majors):
    assert majors.quote("EUR_GBP", NOON) is None


def test_before_the_first_price_there_is_no_quote(majors):
    assert majors.quote("EUR_USD", utc("2005-01-02T22:00")) is None


def test_a_tick_can_be_made_a_quote(majors):
    batch = next(iter(majors.ticks(["USD_JPY"], NOON, NOON + seconds(60))))

    quote = majors.quote_of("USD_JPY", batch.time[3], batch.bid[3], batch.ask[3])

    assert quote == majors.quote("USD_JPY", batch.time[3] + MICROSECOND)
    assert quote.instrument is majors.instruments["USD_JPY"]


def test_threads_that_ask_together_get_what_one_gets_alone(majors):
    fresh = Market(SampleMarket(20050103))
    asked = [(name, NOON + seconds(977 * number)) for number in range(40) for name in MAJORS[:3]]

    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda each: fresh.quote(*each), asked))

    assert together == [majors.quote(*each) for each in asked]


def test_a_quote_notices_a_price_that_was_scripted_after_it_was_asked_for(scripted):
    found = []
    for second, bid in ((1, "1.08"), (2, "1.07"), (3, "1.09")):
        price(scripted, f"2024-05-16T12:00:0{second}Z", bid, "1.10")
        found.append(str(scripted.quote("EUR_USD", NOON + seconds(10)).bid))

    assert found == ["1.08000", "1.07000", "1.09000"]


def test_the_same_price_is_tradeable_until_the_session_ends(scripted):
    price(scripted, "2024-05-16T20:50:00Z", "1.08", "1.09")

    quotes = [scripted.quote("EUR_USD", utc(f"2024-05-16T20:{minute}:00")) for minute in (57, 58, 59)]

    assert [quote.tradeable for quote in quotes] == [True, False, False]
    assert len({quote.time for quote in quotes}) == 1


# --- What is done to it -----------------------------------------------------------------------------------------------------


def test_a_halt_stops_prices_and_trading_of_one_pair_until_it_is_resumed(market):
    halted = Market(market)
    halted.apply({"change": "halt", "instrument": "EUR_USD", "time": "2024-05-16T12:10:00Z"})
    halted.apply({"change": "resume", "instrument": "EUR_USD", "time": "2024-05-16T12:20:00Z"})
    inside = utc("2024-05-16T12:15")

    found = rows(halted, ["EUR_USD", "USD_JPY"], NOON, NOON + seconds(1800))

    assert not halted.is_open("EUR_USD", inside)
    assert halted.is_open("USD_JPY", inside)
    assert halted.is_open("EUR_USD", utc("2024-05-16T12:20"))
    assert halted.quote("EUR_USD", inside).tradeable is False
    assert halted.quote("EUR_USD", inside).time < utc("2024-05-16T12:10")
    times = {name: np.array([row[0] for row in found if row[1] == name]) for name in ("EUR_USD", "USD_JPY")}
    silent = {name: ((of >= utc("2024-05-16T12:10")) & (of < utc("2024-05-16T12:20"))).sum() for name, of in times.items()}
    assert silent["EUR_USD"] == 0
    assert silent["USD_JPY"] > 0


def test_no_batch_reaches_over_the_beginning_or_the_end_of_a_halt(market):
    halted = Market(market)
    edges = [utc("2024-05-16T12:10"), utc("2024-05-16T12:20:30")]
    for change, edge in zip(("halt", "resume"), edges, strict=True):
        halted.apply({"change": change, "instrument": "EUR_USD", "time": f"{edge}Z"})

    batches = list(halted.ticks(["EUR_USD", "USD_JPY"], NOON, NOON + seconds(1800)))

    assert [sorted(set(batch.which.tolist())) for batch in batches] == [[0, 1], [1], [0, 1]]
    for before, after, edge in zip(batches, batches[1:], edges, strict=False):
        assert before.time[-1] < edge <= after.time[0]


def test_a_scripted_price_during_a_halt_is_seen_and_cannot_be_traded_on(scripted):
    scripted.apply({"change": "halt", "time": "2024-05-16T12:00:00Z"})
    price(scripted, "2024-05-16T12:00:01Z", "1.08", "1.09")

    assert not rows(scripted, ["EUR_USD"], NOON, NOON + seconds(60))
    assert scripted.quote("EUR_USD", NOON + seconds(2)).tradeable is False


def test_all_pairs_are_changed_when_none_is_named(scripted):
    scripted.apply({"change": "halt", "instrument": None, "time": "2024-05-16T12:00:00Z"})

    assert [scripted.is_open(name, NOON) for name in scripted.instruments] == [False, False, False]


def test_the_book_can_be_thin_and_empty_for_a_while(scripted):
    price(scripted, "2024-05-16T12:00:00Z", "1.08000", "1.08010")
    levels = [[0, "500"], [3, "2000"]]
    scripted.apply({"change": "liquidity", "time": "2024-05-16T12:01:00Z", "until": "2024-05-16T12:02:00Z", "levels": levels})
    scripted.apply({"change": "liquidity", "time": "2024-05-16T12:03:00Z", "levels": []})
    scripted.apply({"change": "liquidity", "time": "2024-05-16T12:04:00Z", "until": "2024-05-16T12:04:00Z", "levels": []})

    deep, thin, again, empty, ended = (scripted.quote("EUR_USD", NOON + seconds(60 * minute + 1)) for minute in range(5))

    assert deep.asks == again.asks == ended.asks == (Level(Decimal("1.08010"), LIQUIDITY),)
    assert thin.bids == (Level(Decimal("1.08000"), Decimal(500)), Level(Decimal("1.07997"), Decimal(2000)))
    assert thin.asks == (Level(Decimal("1.08010"), Decimal(500)), Level(Decimal("1.08013"), Decimal(2000)))
    assert (empty.bids, empty.asks, empty.bid) == ((), (), Decimal("1.08000"))


def test_a_scripted_price_can_bring_its_own_liquidity(scripted):
    price(scripted, "2024-05-16T12:00:00Z", "1.08000", "1.08010", liquidity=700)
    price(scripted, "2024-05-16T12:00:02Z", "1.08001", "1.08011")

    first, second = (scripted.quote("EUR_USD", NOON + seconds(after)) for after in (1, 3))
    tick = scripted.quote_of("EUR_USD", NOON, 108000, 108010)

    assert first.bids == tick.bids == (Level(Decimal("1.08000"), Decimal(700)),)
    assert second.bids == (Level(Decimal("1.08001"), LIQUIDITY),)


def test_a_margin_rate_holds_for_quotes_and_the_list_of_instruments(majors, market):
    changed = Market(market)
    before = changed.quote("EUR_USD", NOON)

    changed.apply({"change": "margin_rate", "instrument": "EUR_USD", "time": "2024-05-16T12:00:00Z", "rate": "0.5"})

    assert before.instrument.margin_rate == Decimal("0.02")
    assert changed.instruments["EUR_USD"].margin_rate == changed.quote("EUR_USD", NOON).instrument.margin_rate == Decimal("0.5")
    assert changed.instruments["USD_JPY"] == majors.instruments["USD_JPY"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"change": "earthquake"}, "'change' is 'earthquake'; expected one of tick, halt"),
        ({"change": "halt", "instrument": "XAU_USD"}, "'instrument' is 'XAU_USD'; this market has EUR_USD, USD_JPY"),
        ({"change": "halt", "time": None}, "'time' is absent; expected a time like"),
        ({"change": "tick", "instrument": None, "bid": 1, "ask": 1}, "expected its name"),
        ({"change": "tick", "bid": "1.1", "ask": "1.0"}, "'ask' 1.0 is below 'bid' 1.1"),
        ({"change": "tick", "bid": "1.080001", "ask": "1.1"}, "expected a price of EUR_USD with 5 decimals"),
        ({"change": "tick", "bid": 0, "ask": "1.1"}, "'bid' is 0; expected a price"),
        ({"change": "tick", "bid": "cheap", "ask": "1.1"}, "'bid' is 'cheap'; expected a number of 0 or more"),
        ({"change": "tick", "ask": "1.1"}, "'bid' is None; expected a number"),
        ({"change": "tick", "bid": 1, "ask": "1.1", "liquidity": -1}, "'liquidity' is -1; expected a number of 0 or more"),
        ({"change": "spread", "factor": -2}, "'factor' is -2; expected a number of 0 or more"),
        ({"change": "spread", "factor": True}, "'factor' is True; expected a number"),
        ({"change": "spread", "factor": 2, "until": "2024-05-16T11:00:00Z"}, "'until' lies before 'time'"),
        ({"change": "gap", "points": "0.5"}, "'points' holds '0.5'; expected whole points"),
        ({"change": "gap", "points": "Infinity"}, "'points' is 'Infinity'; expected a number"),
        ({"change": "liquidity", "levels": 5}, "'levels' is no list of pairs"),
        ({"change": "liquidity", "levels": [[1, 5], [1, 6]]}, "not from the top down"),
        ({"change": "margin_rate", "rate": "2"}, "'rate' is 2; expected a share of the position"),
    ],
)
def test_a_change_that_makes_no_sense_is_refused_and_changes_nothing(scripted, change, words):
    with pytest.raises(Refusal) as refusal:
        scripted.apply({"instrument": "EUR_USD", "time": "2024-05-16T12:00:00Z"} | change)

    assert words in refusal.value.message
    assert scripted.is_open("EUR_USD", NOON)
    assert scripted.quote("EUR_USD", NOON + seconds(60)) is None


def test_a_computed_fraction_is_rounded_to_the_precision_of_the_pair(scripted):
    price(scripted, "2024-05-16T12:00:00Z", 1.08 * 1.1, 1.1881)

    assert scripted.quote("EUR_USD", NOON + seconds(1)).bid == Decimal("1.18800")


def test_any_pair_can_be_scripted_with_terms_of_its_own(scripted):
    own = replace(terms("EUR_GBP"), margin_rate=Decimal("0.0333333"))
    price(scripted, "2024-05-16T12:00:00Z", "0.8566", "0.8568", "EUR_GBP")

    assert scripted.quote("EUR_GBP", NOON + seconds(1)).mid == Decimal("0.85670")
    assert [terms(name).display_precision for name in ("EUR_GBP", "EUR_JPY", "USD_JPY")] == [5, 3, 3]
    assert Market(ScriptedSource({"EUR_GBP": own})).instruments["EUR_GBP"].margin_rate == Decimal("0.0333333")
