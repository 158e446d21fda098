"""Which bars belong together and when they are due, whatever a broker shows and whenever it is asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbats.live.market.assembly import Assembly, Delivery, Link, find_link
from mbats.market import Bars, Granularity, parse_utc, to_us
from mbats.oanda.candles_latest import Shown

M1 = Granularity.M1
START = parse_utc("2024-05-14T10:00:00Z")
WAIT = timedelta(seconds=10)
OFFERED = ("EUR_USD", "GBP_USD", "USD_JPY", "EUR_JPY", "EUR_GBP")


def minute(number: float) -> datetime:
    return START + timedelta(minutes=number)


def bars(*numbers: int, price: float = 1.0) -> Bars:
    """Bars of these minutes, which close at `price` and a hundredth for each minute."""
    closes = [price + number / 100 for number in numbers]
    times = np.array([to_us(minute(number)) for number in numbers], "datetime64[us]")
    return Bars.from_mid(times, *[closes] * 4, [5] * len(numbers), spread=0.002)


@dataclass
class Broker:
    """A broker with these minutes of each symbol, each complete so many seconds after its end, none of which may be long."""

    has: dict[str, list[int]]
    lag: dict[str, float] = field(default_factory=dict)

    def candles(self, symbol: str, now: datetime, first: datetime) -> Shown:
        """All that start at `first` or later."""
        late = timedelta(seconds=self.lag.get(symbol, 0))
        begun = [n for n in self.has[symbol] if first <= minute(n) < now]
        complete = [n for n in begun if minute(n + 1) + late <= now]
        forming = begun[len(complete) :]
        return Shown(bars(*complete), minute(forming[0]) if forming else None)

    def latest(self, symbol: str, now: datetime) -> Shown:
        shown = self.candles(symbol, now, minute(-100))
        return Shown(shown.bars[-1:], shown.forming)


def look(assembly: Assembly, broker: Broker, now: datetime, *, without: str = "") -> list[Delivery]:
    """One round of the desk. `without` is a symbol whose requests fail."""
    for track in assembly.tracks.values():
        if track.symbol != without and not track.offer(broker.latest(track.symbol, now), now):
            track.extend(broker.candles(track.symbol, now, track.frontier), now, whole=True)
    return assembly.ready(WAIT)


def assemble(*symbols: str, after: int | None = -1, currency: str = "USD") -> Assembly:
    begin = None if after is None else minute(after)
    return Assembly(symbols, M1, dict.fromkeys(symbols, begin), currency=currency, offered=OFFERED)


def said(deliveries: list[Delivery]) -> list[tuple[float, list[str]]]:
    """The minutes at which they completed, and their symbols."""
    return [((each.completed_at - START) / timedelta(minutes=1), sorted(each.bars)) for each in deliveries]


def test_bars_of_one_minute_come_together_however_late_one_of_them_is():
    broker = Broker({"EUR_USD": [0, 1], "GBP_USD": [0, 1]}, {"GBP_USD": 7})
    assembly = assemble("EUR_USD", "GBP_USD")

    assert look(assembly, broker, minute(1)) == []
    assert assembly.waits
    assert look(assembly, broker, minute(1) + timedelta(seconds=6)) == []
    assert said(look(assembly, broker, minute(1) + timedelta(seconds=7))) == [(1, ["EUR_USD", "GBP_USD"])]
    assert not assembly.waits


def test_one_that_comes_after_its_moment_was_given_up_follows_by_itself_before_what_is_newer():
    broker = Broker({"EUR_USD": [0, 1, 2], "GBP_USD": [0, 1, 2]}, {"GBP_USD": 15})
    assembly = assemble("EUR_USD", "GBP_USD")

    given_up = look(assembly, broker, minute(1) + timedelta(seconds=10))
    later = look(assembly, broker, minute(1) + timedelta(seconds=15))

    assert said(given_up) == [(1, ["EUR_USD"])]
    assert not given_up[0].late
    assert said(later) == [(1, ["GBP_USD"])]
    assert later[0].late


def test_a_hole_is_only_believed_when_all_candles_since_then_were_shown():
    broker = Broker({"EUR_USD": [0, 3]})
    assembly = assemble("EUR_USD", after=0)
    track = assembly.tracks["EUR_USD"]

    assert not track.offer(broker.latest("EUR_USD", minute(4)), minute(4))
    assert assembly.ready(WAIT) == []
    track.extend(broker.candles("EUR_USD", minute(4), track.frontier), minute(4), whole=True)

    assert said(assembly.ready(WAIT)) == [(4, ["EUR_USD"])]


def test_a_candle_that_forms_beyond_the_next_one_leaves_open_what_lies_between():
    assembly = assemble("EUR_USD", after=0)
    track = assembly.tracks["EUR_USD"]

    assert not track.offer(Shown(bars(0), minute(2)), minute(2.5))
    assert track.asked is None
    track.extend(Shown(bars(1), minute(2)), minute(2.5), whole=True)

    assert said(assembly.ready(WAIT)) == [(2, ["EUR_USD"])]
    assert track.frontier == minute(2)


def test_a_page_that_is_full_settles_nothing_after_it():
    broker = Broker({"EUR_USD": [0, 1, 2], "GBP_USD": [2]})
    assembly = assemble("EUR_USD", "GBP_USD")
    euro, pound = assembly.tracks.values()
    pound.extend(broker.candles("GBP_USD", minute(3), pound.frontier), minute(3), whole=True)

    euro.extend(Shown(bars(0, 1), None), minute(3), whole=False)
    assert said(assembly.ready(WAIT)) == [(1, ["EUR_USD"]), (2, ["EUR_USD"])]  # the pound's third waits for the euro's
    euro.extend(broker.candles("EUR_USD", minute(3), euro.frontier), minute(3), whole=True)

    assert said(assembly.ready(WAIT)) == [(3, ["EUR_USD", "GBP_USD"])]


def test_an_answer_of_before_changes_nothing():
    broker = Broker({"EUR_USD": [0, 1, 2]})
    assembly = assemble("EUR_USD")
    look(assembly, broker, minute(3))
    track = assembly.tracks["EUR_USD"]

    for old in (broker.latest("EUR_USD", minute(1)), broker.latest("EUR_USD", minute(2.5)), Shown(Bars.empty(), None)):
        assert track.offer(old, minute(9))

    assert assembly.ready(WAIT) == []
    assert (track.frontier, track.asked) == (minute(3), minute(3))


def test_a_bar_that_is_shown_twice_or_revised_is_delivered_once():
    assembly = assemble("EUR_USD")
    track = assembly.tracks["EUR_USD"]
    track.offer(Shown(bars(0), minute(1)), minute(1))
    assert len(assembly.ready(WAIT)) == 1

    track.offer(Shown(bars(0, price=7.0), minute(1)), minute(1))
    track.extend(Shown(bars(0, 1), minute(2)), minute(2), whole=True)

    assert said(assembly.ready(WAIT)) == [(2, ["EUR_USD"])]


def test_when_fx_closes_a_missing_bar_is_not_waited_for_but_one_that_is_not_complete_is():
    friday = parse_utc("2024-05-17T20:58:00Z")  # two minutes before 17:00 New York
    times = np.array([to_us(friday)], "datetime64[us]")
    last = Bars.from_mid(times, [1.0], [1.0], [1.0], [1.0], [1])
    end = friday + timedelta(minutes=1)
    for forming, expected in ((None, 1), (friday, 0)):
        after = dict.fromkeys(["EUR_USD", "GBP_USD"], friday - timedelta(minutes=1))
        assembly = Assembly(list(after), M1, after, currency="USD", offered=OFFERED)
        euro, pound = assembly.tracks.values()
        euro.offer(Shown(last, None), end)
        pound.offer(Shown(Bars.empty(), forming), end)

        assert len(assembly.ready(WAIT)) == expected


def test_with_nothing_known_the_bar_that_forms_is_the_first():
    broker = Broker({"EUR_USD": [-2, -1, 0, 1]})
    assembly = assemble("EUR_USD", after=None)

    assert look(assembly, broker, minute(0.5)) == []
    assert said(look(assembly, broker, minute(1))) == [(1, ["EUR_USD"])]


def test_impatience_waits_for_nobody_and_a_refused_symbol_is_never_waited_for():
    broker = Broker({"EUR_USD": [0, 1], "GBP_USD": [0, 1]})
    assembly = assemble("EUR_USD", "GBP_USD")
    assert look(assembly, broker, minute(1), without="GBP_USD") == []
    assert look(assembly, broker, minute(3), without="GBP_USD") == []  # failed requests are no silence of the market

    assert said(assembly.ready(WAIT, without=["GBP_USD"])) == [(1, ["EUR_USD"]), (2, ["EUR_USD"])]

    assembly = assemble("EUR_USD", "GBP_USD")
    look(assembly, broker, minute(1), without="GBP_USD")
    assert said(assembly.ready(WAIT, impatient=True)) == [(1, ["EUR_USD"])]


# --- What converts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("symbol", "currency", "link"),
    [
        ("EUR_USD", "USD", None),
        ("USD_JPY", "USD", Link("USD_JPY", inverse=True)),
        ("EUR_JPY", "USD", Link("USD_JPY", inverse=True)),
        ("EUR_GBP", "USD", Link("GBP_USD", inverse=False)),
        ("GBP_USD", "EUR", Link("EUR_USD", inverse=True)),
    ],
)
def test_a_pair_is_converted_by_itself_or_by_a_pair_with_the_accounts_currency(symbol, currency, link):
    assert find_link(symbol, currency, OFFERED) == link


def test_a_bar_waits_for_the_bar_that_converts_it_and_uses_its_close():
    broker = Broker({"EUR_GBP": [0, 1], "GBP_USD": [0, 1]}, {"GBP_USD": 5})
    assembly = assemble("EUR_GBP")
    assembly.tracks["GBP_USD"].anchor(bars(-1))

    assert look(assembly, broker, minute(1)) == []
    (delivery,) = look(assembly, broker, minute(1) + timedelta(seconds=5))

    assert list(delivery.bars) == ["EUR_GBP"]
    assert delivery.bars["EUR_GBP"].conversion == pytest.approx(1.0)
    (delivery,) = look(assembly, broker, minute(2) + timedelta(seconds=5))
    assert delivery.bars["EUR_GBP"].conversion == pytest.approx(1.01)


def test_a_minute_in_which_the_converting_pair_has_no_bar_is_converted_by_its_last_one():
    broker = Broker({"EUR_GBP": [0, 1, 2], "GBP_USD": [0, 2]})
    assembly = assemble("EUR_GBP")
    assembly.tracks["GBP_USD"].anchor(Bars.empty())

    deliveries = look(assembly, broker, minute(3))

    assert [round(each.bars["EUR_GBP"].conversion, 6) for each in deliveries] == [1.0, 1.0, 1.02]


def test_the_first_bar_is_converted_by_one_of_before_and_none_is_delivered_unconverted():
    broker = Broker({"EUR_GBP": [0], "GBP_USD": [-3]})
    assembly = assemble("EUR_GBP")
    link = assembly.tracks["GBP_USD"]
    assert look(assembly, broker, minute(2)) == []
    assert link.missing_before == 1

    link.anchor(bars(-3))

    assert [each.bars["EUR_GBP"].conversion for each in assembly.ready(WAIT)] == [pytest.approx(0.97)]
    assert link.missing_before == 0


def test_a_traded_pair_that_also_converts_reaches_back_as_far_as_the_others_need_it():
    after = {"EUR_GBP": minute(0), "GBP_USD": minute(4)}
    assembly = Assembly(list(after), M1, after, currency="USD", offered=OFFERED)

    assert assembly.tracks["GBP_USD"].frontier == minute(5)
    assert assembly.tracks["GBP_USD"].missing_before == 5


# --- Whatever happens -----------------------------------------------------------------------------------------------------

MINUTES = 12
symbols_with_bars = st.fixed_dictionaries(
    {name: st.sets(st.integers(0, MINUTES - 1)).map(sorted) for name in ("EUR_USD", "GBP_USD", "USD_JPY")}
)
lags = st.fixed_dictionaries({name: st.floats(0, 20) for name in ("EUR_USD", "GBP_USD", "USD_JPY")})
looks = st.lists(st.tuples(st.floats(0, MINUTES + 1), st.sampled_from(["", "", "EUR_USD", "GBP_USD", "USD_JPY"])), max_size=40)


@given(symbols_with_bars, lags, looks)
def test_each_bar_comes_once_and_in_order_and_none_before_it_is_complete(has, lag, found):
    broker = Broker(has, lag)
    assembly = assemble(*has)
    got: dict[str, list[datetime]] = {name: [] for name in has}

    for at, failing in [*sorted(found), (MINUTES + 1, ""), (MINUTES + 2, "")]:
        for delivery in look(assembly, broker, minute(at), without=failing):
            for name, bar in delivery.bars.items():
                assert delivery.completed_at == bar.time + timedelta(minutes=1)
                assert minute(at) >= delivery.completed_at + timedelta(seconds=lag[name])
                got[name].append(bar.time)

    assert got == {name: [minute(number) for number in numbers] for name, numbers in has.items()}


@given(symbols_with_bars, st.fixed_dictionaries({name: st.floats(0, 9.9) for name in ("EUR_USD", "GBP_USD", "USD_JPY")}), looks)
def test_while_the_broker_answers_in_time_bars_of_one_minute_are_never_torn_apart(has, lag, found):
    broker = Broker(has, lag)
    assembly = assemble(*has)
    moments: list[Delivery] = []

    for at, _ in [*sorted(found), (MINUTES + 1, "")]:
        moments += look(assembly, broker, minute(at))

    numbers = sorted(set().union(*has.values()))
    assert said(moments) == [(n + 1, sorted(name for name in has if n in has[name])) for n in numbers]
    assert not any(each.late for each in moments)
