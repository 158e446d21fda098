"""What an account is worth at the prices of the moment: profit and loss, margin, closeout, financing. Amounts in its currency.

Two views are kept apart, as OANDA does: what a client sees as NAV is at bid and ask; margin and closeout are at mid. The formulas
are those of OANDA's help pages: margin used is rate × units × mid in home currency, the closeout percentage half of the margin
used over the NAV at mid, and the account is closed out at 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from mbats.market import Instrument
from mbats.simulator.core.account import Account
from mbats.simulator.core.numbers import CENT_OF_CENT, money_text, to_money
from mbats.simulator.core.values import ZERO, Trade
from mbats.simulator.quotes import Conversion, Quote, conversion

CLOSEOUT_FACTOR = Decimal("0.5")
DAYS_OF_YEAR = 365

Quotes = Callable[[str], Quote | None]


@dataclass(frozen=True, slots=True)
class TradeValue:
    """One open trade: its profit at the price that would close it, and the margin that it uses by itself."""

    unrealized_pl: Decimal
    margin_used: Decimal


@dataclass(frozen=True, slots=True)
class PositionValue:
    """The open trades of one pair, by side and together. In a hedged one, margin may be less than the sum of its trades'."""

    long_pl: Decimal
    short_pl: Decimal
    margin_used: Decimal

    @property
    def net_pl(self) -> Decimal:
        return self.long_pl + self.short_pl


@dataclass(frozen=True, slots=True)
class Valuation:
    """One account at one moment, unrounded. Percentages are fractions: the account is closed out at 1, not at 100."""

    unrealized_pl: Decimal
    nav: Decimal
    margin_used: Decimal
    margin_available: Decimal
    position_value: Decimal
    closeout_unrealized_pl: Decimal
    closeout_nav: Decimal
    closeout_margin_used: Decimal
    closeout_percent: Decimal
    closeout_position_value: Decimal
    withdrawal_limit: Decimal
    call_margin_used: Decimal
    call_percent: Decimal
    trades: dict[int, TradeValue] = field(default_factory=dict)
    positions: dict[str, PositionValue] = field(default_factory=dict)


def value(account: Account, instruments: Mapping[str, Instrument], quote: Quotes) -> Valuation:
    """The account at these quotes. Raises LookupError when a pair that it holds, or one to convert with, has no price."""
    trades: dict[int, TradeValue] = {}
    positions: dict[str, PositionValue] = {}
    unrealized = closeout = used = worth = ZERO
    for name in dict.fromkeys(trade.instrument for trade in account.open.values()):
        instrument, price = instruments[name], _priced(quote, name)
        base, counter = conversions(account, instrument, quote)
        sides = {True: ZERO, False: ZERO}
        for trade in account.open_in(name):
            pl = _profit(trade, price.bid if trade.units > 0 else price.ask, counter)
            sides[trade.units > 0] += pl
            closeout += trade.units * (price.mid - trade.price) * counter.mid
            worth += abs(trade.units) * base.mid
            trades[trade.id] = TradeValue(pl, abs(trade.units) * base.mid * margin_rate(account, instrument))
        margin = margin_of(account, instrument, *account.units(name), base)
        positions[name] = PositionValue(sides[True], sides[False], margin)
        used += margin
        unrealized += sides[True] + sides[False]
    nav = account.balance + closeout
    percent = used / max(nav, CENT_OF_CENT)  # less than what is booked is nothing
    available = max(ZERO, nav - used)
    return Valuation(
        unrealized_pl=unrealized,
        nav=account.balance + unrealized,
        margin_used=used,
        margin_available=available,
        position_value=worth,
        closeout_unrealized_pl=closeout,
        closeout_nav=nav,
        closeout_margin_used=used,
        closeout_percent=CLOSEOUT_FACTOR * percent,
        closeout_position_value=worth,
        withdrawal_limit=available,
        call_margin_used=used,
        call_percent=percent,
        trades=trades,
        positions=positions,
    )


def margin_rate(account: Account, instrument: Instrument) -> Decimal:
    """The share of a position that is asked for: the instrument's, or the account's own where it is above."""
    return max(instrument.margin_rate, account.margin_rate or ZERO)


def margin_of(account: Account, instrument: Instrument, long: Decimal, short: Decimal, base: Conversion) -> Decimal:
    """The margin of a position of so many units bought and sold (negative)."""
    return margin_units(account, long, short) * base.mid * margin_rate(account, instrument)


def margin_units(account: Account, long: Decimal, short: Decimal) -> Decimal:
    """For how many units margin is asked, by the account's way to aggregate the two sides of a position."""
    if account.config.aggregation == "ABSOLUTE_SUM":
        return long - short
    return abs(long + short) if account.config.aggregation == "NET_SUM" else max(long, -short)


def conversions(account: Account, instrument: Instrument, quote: Quotes) -> tuple[Conversion, Conversion]:
    """What the pair's base and quote currencies are worth in the account's."""
    home = account.config.currency
    return conversion(instrument.base, home, quote), conversion(instrument.quote, home, quote)


def financing(
    account: Account, instruments: Mapping[str, Instrument], quote: Quotes, weekday: int
) -> tuple[Decimal, list[dict[str, Any]]]:
    """What the open trades pay or earn for the night after this New York weekday (Monday is 0): the sum, and the parts.

    Each trade's part is units × mid × annual rate × days / 365, in home currency with four decimals. The parts are written as
    in DAILY_FINANCING, without pairs for which nothing is charged on that day. An account without financing has none.
    """
    total = ZERO
    positions: list[dict[str, Any]] = []
    if account.config.financing == "NO_FINANCING":
        return total, positions
    for name in dict.fromkeys(trade.instrument for trade in account.open.values()):
        instrument = instruments[name]
        days = instrument.financing_days[weekday]
        if not days:
            continue
        mid, counter = _priced(quote, name).mid, conversions(account, instrument, quote)[1]
        parts = {trade.id: _charge(trade, instrument, mid, days, counter) for trade in account.open_in(name)}
        amount = sum(parts.values(), ZERO)
        total += amount
        trades = [{"tradeID": str(number), "financing": money_text(part)} for number, part in parts.items()]
        positions.append({"instrument": name, "financing": money_text(amount), "openTradeFinancings": trades})
    return total, positions


def _charge(trade: Trade, instrument: Instrument, mid: Decimal, days: int, counter: Conversion) -> Decimal:
    rate = instrument.long_rate if trade.units > 0 else instrument.short_rate
    amount = abs(trade.units) * mid * rate * days / DAYS_OF_YEAR
    return to_money(amount * (counter.gain if amount > 0 else counter.loss))


def _profit(trade: Trade, price: Decimal, counter: Conversion) -> Decimal:
    gain = trade.units * (price - trade.price)
    return gain * (counter.gain if gain > 0 else counter.loss)


def _priced(quote: Quotes, name: str) -> Quote:
    found = quote(name)
    if found is None:
        raise LookupError(f"{name} is held but has no price yet.")
    return found
