"""Random histories of several deployments on one pair: whatever happens, every lot has its stop, and a gap leaves nobody."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from live.books.watched import our_id
from live.protection.guarded import SYMBOL, Guarded, covered, must_have_stops, ours, positions

from mbats.live.protection import Naked, PlaceStop

D = Decimal
PIP = D("0.00001")
DEPLOYMENTS = ("alpha", "beta", "gamma")
START = 110_000  # points


@dataclass
class Story:
    """A guarded account, and where its price is, in points."""

    desk: Guarded = field(default_factory=Guarded)
    price: int = START
    entries: int = 0

    def move(self, points: int, *, alive: bool = True) -> None:
        self.price = max(100_000, min(120_000, self.price + points))
        bid, ask = text(self.price), text(self.price + 10)
        self.desk.see(bid, ask) if alive else self.desk.at(bid, ask)

    def enter(self, owner: str, units: int, stop: int, target: int | None, trails: bool) -> None:
        """An entry with a stop so many points away, and perhaps a target twice as far."""
        self.entries += 1
        side = 1 if units > 0 else -1
        more: dict[str, Any] = {"purpose": f"open-{self.entries}"}
        if trails:
            more["trailingStopLossOnFill"] = {"distance": text(stop)}
        else:
            more["stopLossOnFill"] = {"price": text(self.price - side * stop)}
        if target is not None:
            more["takeProfitOnFill"] = {"price": text(self.price + side * target)}
        self.desk.enter(owner, units, **more)

    def leave(self, owner: str, share: int, *, trades_first: bool) -> None:
        """An exit of so many hundredths: by closing its own trades first, as the trader does, or by a market order alone."""
        held = self.desk.books.position(owner, SYMBOL)
        units = abs(held) * share // 100
        if trades_first:
            for trade in [each for each in self.desk.books.trades.values() if each.units * held > 0]:
                lot = self.desk.books.find_lot(trade.client_id)
                if lot is not None and lot.deployment == owner and units:
                    part = min(units, abs(trade.units), abs(lot.units))
                    self.desk.close(trade.id, str(part))
                    units -= part
        if units:
            self.entries += 1
            self.desk.leave(owner, int(-units.copy_sign(held)), purpose=f"close-{self.entries}")

    def by_hand(self, what: str, number: int, points: int) -> None:
        """A person does something on the broker's own page."""
        open_now = sorted(self.desk.books.trades.values(), key=lambda trade: trade.id)
        if what == "trade":
            self.desk.foreign(points // 10 or 1)
        elif open_now:
            trade = open_now[number % len(open_now)]
            if what == "close":
                self.desk.close(trade.id)
            elif what == "part":
                self.desk.close(trade.id, str(max(1, abs(trade.units) // 3)))
            elif trade.stop is not None and what == "cancel":
                self.desk.cancel_by_hand(trade.id, "stopLoss")
            elif trade.client_id is not None and trade.stop is not None:
                side = 1 if trade.units > 0 else -1
                self.desk.attach(trade.id, stopLoss={"price": text(self.price - side * abs(points) - side * 20)})

    def change(self, number: int, points: int) -> None:
        """A strategy moves the stop of one of its lots."""
        lots = must_have_stops(self.desk.books)
        if lots:
            lot = lots[number % len(lots)]
            if lot.trail is None:
                side = 1 if lot.units > 0 else -1
                stop = D(self.price - side * (abs(points) + 20)) * PIP
                self.desk.books.set_protection(lot.id, stop=stop, trail=None, target=lot.target)


def text(points: int) -> str:
    return str(D(points) * PIP)


sizes = st.integers(1, 12).flatmap(lambda size: st.sampled_from([size * 100, -size * 100]))
enter = st.tuples(
    st.just("enter"),
    st.sampled_from(DEPLOYMENTS),
    sizes,
    st.integers(50, 900),
    st.one_of(st.none(), st.integers(50, 1500)),
    st.sampled_from([False, False, False, True]),
)
leave = st.tuples(st.just("leave"), st.sampled_from(DEPLOYMENTS), st.integers(10, 100), st.booleans())
move = st.tuples(st.just("move"), st.integers(-400, 400))
hand = st.tuples(
    st.just("by_hand"), st.sampled_from(["trade", "close", "part", "cancel", "stop"]), st.integers(0, 9), st.integers(-5000, 5000)
)
change = st.tuples(st.just("change"), st.integers(0, 9), st.integers(0, 500))
strip = st.tuples(st.just("strip"), st.booleans())
steps = st.lists(st.one_of(enter, enter, leave, move, hand, change, strip), min_size=2, max_size=14)


def tell(story: Story, step: tuple[Any, ...]) -> None:
    kind, *rest = step
    match kind:
        case "enter":
            story.enter(*rest)
        case "leave":
            story.leave(*rest[:2], trades_first=rest[2])
        case "move":
            story.move(*rest)
        case "by_hand":
            story.by_hand(*rest)
        case "change":
            story.change(*rest)
        case "strip":
            story.desk.engine.strip_on_fill = rest[0]


def settle(story: Story) -> None:
    """Plan and act until nothing is left to do; a stop that the price has passed fills at once, and leaves a new situation."""
    for _ in range(6):
        if not story.desk.protect().actions:
            return
    raise AssertionError(f"there is always something left to do: {story.desk.plan()}")


def assert_covered(story: Story) -> None:
    books = story.desk.books
    assert story.desk.plan().naked == ()
    for lot in must_have_stops(books):
        assert covered(books, lot) == abs(lot.units), lot
        for order in books.pending.values():
            if (order.client_id or "").startswith(f"{lot.id}.net") and lot.trail is None:
                assert order.price == lot.stop
    for lot in ours(books):
        targets = sum(
            abs(trade.units)
            for trade in books.trades.values()
            if trade.target is not None and (trade.target.client_id or f"{trade.client_id}.tp").rsplit(".", 1)[0] == lot.id
        )
        watched = sum(abs(each.units) for each in story.desk.plan().armed if each.lot_id == lot.id)
        assert targets + watched == (abs(lot.units) if lot.target is not None else 0)


@given(steps)
@settings(max_examples=100, deadline=None)
def test_after_each_plan_every_lot_is_covered_exactly_and_there_is_nothing_left_to_do(told: list[tuple[Any, ...]]) -> None:
    story = Story()
    story.move(0)
    for step in told:
        tell(story, step)
        settle(story)
        assert_covered(story)


@given(steps, st.booleans(), st.booleans())
@settings(max_examples=100, deadline=None)
def test_a_gap_through_all_stops_leaves_every_deployment_flat_whether_the_trader_lives_or_not(
    told: list[tuple[Any, ...]], down_first: bool, alive: bool
) -> None:
    story = Story()
    story.move(0)
    for step in told:
        tell(story, step)
        settle(story)
    unprotected = {lot.id for lot in ours(story.desk.books)} - {lot.id for lot in must_have_stops(story.desk.books)}

    for points in (-20_000, 40_000) if down_first else (20_000, -40_000):
        story.move(points, alive=alive)
        if alive:
            settle(story)

    left = [lot for lot in ours(story.desk.books) if lot.id not in unprotected]
    assert left == []
    foreign = story.desk.books.position("", SYMBOL)
    assert story.desk.books.broker_position(SYMBOL) == foreign + sum(positions(story.desk.books).values())


@given(steps, st.integers(0, 5))
@settings(max_examples=100, deadline=None)
def test_a_trader_that_dies_between_two_requests_leaves_no_lot_less_protected_and_goes_on_from_there(
    told: list[tuple[Any, ...]], done: int
) -> None:
    story = Story()
    story.move(0)
    for step in told:
        tell(story, step)
        story.desk.protect(done)
        settle(story)
        assert_covered(story)


def test_a_lot_that_must_have_a_stop_is_naked_until_it_has_one() -> None:
    story = Story()
    story.move(0)
    story.enter("alpha", 1000, 500, None, False)
    story.enter("beta", -400, 500, None, False)
    one, other = our_id("alpha", "open-1"), our_id("beta", "open-2")

    found = story.desk.plan()
    assert found.naked == (Naked(one, D(400)), Naked(other, D(-400)))
    assert all(isinstance(action, PlaceStop) for action in found.actions)
    settle(story)
    assert story.desk.plan().naked == ()
