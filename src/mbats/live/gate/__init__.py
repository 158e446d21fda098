"""The risk gate between a strategy and the broker: `judge(order, view, limits, state, now)` allows an order or refuses it.

Pure functions over frozen values: no clock, no network, no database, so that the gate works when all of these are down and
every answer can be repeated from its arguments. Times are UTC, trading days New York's, money and prices Decimal.
"""

from mbats.live.gate.as_json import read_json, to_json
from mbats.live.gate.checks import Allowed, Refused, judge
from mbats.live.gate.exposure import split_flip
from mbats.live.gate.limits import Limits, read_limits
from mbats.live.gate.losses import Losses, NavMark, TradeClosed, Transfer, fold
from mbats.live.gate.mode import Mode, check_account
from mbats.live.gate.orders import Cancel, Intent, Kind, Order, Working
from mbats.live.gate.reasons import Reason
from mbats.live.gate.state import Command, CommandKind, GateState, Latch, TradingState, apply, latch, ruling
from mbats.live.gate.throttle import Throttle, count
from mbats.live.gate.view import Quote, View

__all__ = [
    "Allowed",
    "Cancel",
    "Command",
    "CommandKind",
    "GateState",
    "Intent",
    "Kind",
    "Latch",
    "Limits",
    "Losses",
    "Mode",
    "NavMark",
    "Order",
    "Quote",
    "Reason",
    "Refused",
    "Throttle",
    "TradeClosed",
    "TradingState",
    "Transfer",
    "View",
    "Working",
    "apply",
    "check_account",
    "count",
    "fold",
    "judge",
    "latch",
    "read_json",
    "read_limits",
    "ruling",
    "split_flip",
    "to_json",
]
