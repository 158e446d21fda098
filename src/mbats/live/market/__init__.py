"""What the trader knows of the market: the time, the newest prices, complete bars as they come, and those before them.

Nothing here decides anything, and nothing here knows an order. Times are UTC.
"""

from mbats.live.market.bars import BarDesk, DeskHealth
from mbats.live.market.clock import BrokerTimeClock, Clock, MachineClock, SkewCheck, SkewLevel
from mbats.live.market.history import History, read_history, read_with_conversions
from mbats.live.market.home import HomeRates
from mbats.live.market.quotes import QuoteBoard

__all__ = [
    "BarDesk",
    "BrokerTimeClock",
    "Clock",
    "DeskHealth",
    "History",
    "HomeRates",
    "MachineClock",
    "QuoteBoard",
    "SkewCheck",
    "SkewLevel",
    "read_history",
    "read_with_conversions",
]
