"""A brute-force reference for fills: bar by bar, order by order, in plain lines, with no Backtrader and none of our engine.

It knows one bracket at a time for each symbol: an entry (market, limit or stop, perhaps with an end), a stop and a target,
and a wish to close. Prices are integers (points), so that nothing rounds.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class PointBar:
    """One bar in points: mid is half-way between bid and ask, `half` is half of the spread."""

    time: int
    open: int
    high: int
    low: int
    close: int
    half: int

    def side(self, buy: bool) -> tuple[int, int, int, int]:
        shift = self.half if buy else -self.half
        return self.open + shift, self.high + shift, self.low + shift, self.close + shift


@dataclass(frozen=True)
class Wish:
    """What the strategy does at a moment: enter with a bracket when flat and nothing works, or close what is held."""

    kind: str  # market, limit, stop or close
    buy: bool = True
    distance: int = 0  # of the entry from the last mid close, for limit and stop
    stop: int = 1  # distance of the stop from the entry's reference
    target: int = 1
    life: int | None = None  # moments after which an entry that has not filled is given up


@dataclass
class Book:
    """One symbol's orders and position."""

    position: int = 0
    entry: Wish | None = None
    entry_price: int = 0
    born: int = 0
    stop: int = 0
    target: int = 0
    protected: bool = False
    closing: bool = False
    fills: list[tuple[int, int, int, str]] = field(default_factory=list)

    def deal(self, bar: PointBar, units: int, price: int, purpose: str) -> None:
        self.position += units
        self.fills.append((bar.time, units, price, purpose))


def reached(buy: bool, is_stop: bool, price: int, side: tuple[int, int, int, int]) -> int | None:
    """The fill price of a waiting order over a whole bar, gaps at the open first."""
    open_, high, low, _ = side
    if buy == is_stop:  # waits above the market
        return open_ if open_ >= price else price if high >= price else None
    return open_ if open_ <= price else price if low <= price else None


def rest_of_path(bar: PointBar, side: tuple[int, int, int, int], rising: bool) -> list[int]:
    """The prices of a side after an entry on the first leg of the bar's path that goes the entry's way."""
    open_, high, low, close = side
    path = [open_, low, high, close] if bar.close >= bar.open else [open_, high, low, close]
    leg = next(i for i in range(1, 4) if (path[i] == high if rising else path[i] == low) and i < 3)
    return path[leg:]


def play(bars: list[PointBar], moments: list[int], wishes: dict[int, Wish], units: int, *, like_oanda: bool) -> Book:
    """Walk one symbol through all moments of the run; `wishes` says at which of them the strategy acts on it."""
    book = Book()
    by_time = {bar.time: bar for bar in bars}
    last: PointBar | None = None
    for moment in moments:
        bar = by_time.get(moment)
        if bar is not None:
            one_bar(book, bar, units, like_oanda)
            last = bar
        if last is not None and moment in wishes:
            act(book, wishes[moment], last, like_oanda)
    return book


def act(book: Book, wish: Wish, last: PointBar, like_oanda: bool) -> None:
    if wish.kind == "close":
        book.closing = book.closing or book.position != 0
        # Stock leaves the children to the strategy, which takes them back itself before it closes.
        book.protected = book.protected and like_oanda
    elif not book.position and book.entry is None:
        side = 1 if wish.buy else -1
        away = {"market": 0, "limit": -side * wish.distance, "stop": side * wish.distance}[wish.kind]
        book.entry, book.born, book.entry_price = wish, last.time, last.close + away
        book.stop, book.target = book.entry_price - side * wish.stop, book.entry_price + side * wish.target


def one_bar(book: Book, bar: PointBar, units: int, like_oanda: bool) -> None:
    if book.closing and like_oanda:
        close_at_market(book, bar)
    if book.position and book.protected:
        children(book, bar, None)
    if book.closing:
        close_at_market(book, bar)
    if book.entry is not None and not book.position:
        enter(book, bar, units, like_oanda)


def close_at_market(book: Book, bar: PointBar) -> None:
    book.closing = False
    if book.position:
        book.deal(bar, -book.position, bar.side(book.position < 0)[0], "exit")
        book.entry, book.protected = None, False


def enter(book: Book, bar: PointBar, units: int, like_oanda: bool) -> None:
    wish = book.entry
    assert wish is not None
    side = bar.side(wish.buy)
    if wish.kind != "market" and wish.life is not None and bar.time > book.born + wish.life:
        book.entry = None
        return
    price = side[0] if wish.kind == "market" else reached(wish.buy, wish.kind == "stop", book.entry_price, side)
    if price is None:
        return
    closing = price - 2 * bar.half if wish.buy else price + 2 * bar.half
    through_stop = book.stop >= closing if wish.buy else book.stop <= closing
    through_target = book.target <= closing if wish.buy else book.target >= closing
    if like_oanda and (through_stop or through_target):
        book.entry = None
        return
    book.deal(bar, units if wish.buy else -units, price, "entry")
    book.protected = True
    if like_oanda:
        at_open = price == side[0]
        children(book, bar, None if at_open else (wish.kind == "stop") == wish.buy)


def children(book: Book, bar: PointBar, rising: bool | None) -> None:
    """Test stop, then target: over the whole bar, or over what is left of it after an entry inside."""
    buy = book.position < 0
    side = bar.side(buy)
    for is_stop, price in ((True, book.stop), (False, book.target)):
        if rising is None:
            filled = reached(buy, is_stop, price, side)
        else:
            rest = rest_of_path(bar, side, rising)
            filled = price if (max(rest) >= price if buy == is_stop else min(rest) <= price) else None
        if filled is not None:
            book.deal(bar, -book.position, filled, "stop" if is_stop else "take_profit")
            book.entry, book.protected = None, False
            return
