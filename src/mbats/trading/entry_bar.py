"""What a bar still holds after a fill inside it.

A bar gives four prices and no order. The convention is the simulator's: open, low, high, close when it closes at or
above its open, otherwise open, high, low, close. An entry is filled on the first leg that reaches its price: a rising
leg for a buy stop or a sell limit, a falling one for a buy limit or a sell stop. What lies behind it on the path is over:

    closes    entry on    prices still to come    lowest    highest
    up        rising      high, close             close     high
    up        falling     low, high, close        low       high
    down      rising      high, low, close        low       high
    down      falling     low, close              low       close

When both the stop and the target lie in what is to come, the stop counts.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EntryBar:
    """Where and how the parent of a bracket was filled. `bar` is the feed's length then; `at_open` leaves all of the bar."""

    bar: int
    at_open: bool
    rising: bool


def child_fill(
    *, rising: bool, up: bool, stop: bool, buy: bool, price: float, high: float, low: float, close: float
) -> float | None:
    """The fill price of a stop or target on the bar of its entry, or None when the rest of the bar does not reach it.

    `high`, `low` and `close` are of the side on which the child deals; `up` says that the bar's mid closed at or above its
    open, `rising` on which leg the entry was filled. A stop or a limit reached inside the bar fills at its own price.
    """
    lowest = close if up and rising else low
    highest = close if not up and not rising else high
    from_below = buy == stop  # a buy stop and a sell limit wait above the market
    reached = highest >= price if from_below else lowest <= price
    return price if reached else None
