"""The books: whatever is dealt, the sums agree to the last digit."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from mbats.trading.costs import money
from mbats.trading.ledger import Execution, Ledger, Mark

START = datetime(2024, 3, 4, tzinfo=UTC)

deals = st.lists(
    st.tuples(
        st.sampled_from(["EUR_USD", "USD_JPY"]),
        st.integers(-5, 5).filter(bool),  # thousands of units
        st.integers(-300, 300),  # points of mid away from the base
        st.integers(0, 20),  # half spread, points
        st.integers(0, 10),  # slippage, points
        st.none() | st.integers(-400, 400),  # financing to charge afterwards, hundredths
    ),
    max_size=40,
)


def execution(number: int, symbol: str, thousands: int, away: int, half: int, slip: int) -> Execution:
    yen = symbol == "USD_JPY"
    mid = Decimal(150 if yen else 1) + Decimal(away) * (Decimal("0.001") if yen else Decimal("0.00001"))
    point = Decimal("0.001") if yen else Decimal("0.00001")
    side = 1 if thousands > 0 else -1
    reference = mid + side * half * point
    return Execution(
        time=START + timedelta(hours=number),
        bar=number,
        whole_bar=True,
        symbol=symbol,
        units=Decimal(thousands * 1000),
        price=reference + side * slip * point,
        reference=reference,
        mid=mid,
        conversion=1 / mid if yen else Decimal(1),
        order_ref=number + 1,
        order_type="Market",
        purpose="entry",
    )


@given(deals)
@settings(max_examples=300)
def test_cash_plus_open_value_equals_start_plus_trades_whatever_is_dealt(dealt):
    ledger = Ledger(Decimal(100_000))
    charged = Decimal(0)
    for number, (symbol, thousands, away, half, slip, financing) in enumerate(dealt):
        ledger.book(execution(number, symbol, thousands, away, half, slip))
        if financing is not None and ledger.units(symbol):
            charged += ledger.charge_financing(symbol, financing / 100)
    marks = {
        "EUR_USD": Mark(START, 99, Decimal("1.0005"), Decimal("1.0007"), Decimal(1)),
        "USD_JPY": Mark(START, 99, Decimal("150.1"), Decimal("150.13"), Decimal("0.00666")),
    }

    trades = [trip.trade for trip in ledger.round_trips(marks)]

    open_value = sum((ledger.unrealised(symbol, marks[symbol]) for symbol in ledger.open), Decimal(0))
    assert ledger.balance == 100_000 + sum(f.pnl for f in ledger.fills) + charged
    assert ledger.balance + open_value == 100_000 + sum(t.net_pnl for t in trades)
    for trade in trades:
        assert trade.net_pnl == trade.gross_pnl - trade.spread_cost - trade.slippage_cost + trade.financing
    for cost in ("spread_cost", "slippage_cost"):
        assert sum(getattr(t, cost) for t in trades) == sum(getattr(f, cost) for f in ledger.fills)
    for symbol in ("EUR_USD", "USD_JPY"):
        assert ledger.units(symbol) == sum(f.units for f in ledger.fills if f.symbol == symbol)
    assert sum(t.closed_at is None for t in trades) == len(ledger.open)


def test_a_reduction_after_an_addition_realises_against_the_average_of_what_was_open():
    ledger = Ledger(Decimal(0))
    for number, (thousands, away) in enumerate([(2, 0), (2, 100), (-3, 200), (1, 400), (-2, 300)]):
        ledger.book(execution(number, "EUR_USD", thousands, away, 0, 0))

    # Average of 0 and 100 is 50; three thousand close 150 above it; one thousand at 50 and one at 400 average 225.
    assert [fill.pnl for fill in ledger.fills] == [money(x) for x in (0, 0, 4.5, 0, 1.5)]
    assert not ledger.open


def test_going_through_zero_closes_one_trade_and_opens_the_next_in_one_fill():
    ledger = Ledger(Decimal(0))
    ledger.book(execution(0, "EUR_USD", 1, 0, 5, 0))
    fill = ledger.book(execution(1, "EUR_USD", -3, 100, 5, 0))

    (closed,) = ledger.closed
    assert fill.position_after == -2000
    assert closed[0].spread_cost == money("0.1")  # half a spread to enter and half to leave a thousand
    assert ledger.open["EUR_USD"].spread_cost == money("0.1")  # half a spread on two thousand
