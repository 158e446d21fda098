"""What happens in one run, all of it from one integer: wishes of strategies, prices, faults, and the ends of processes. Pure.

    script = make_script(7)

Times between machines cannot be scripted, so two runs of one script differ in what overlaps; what is wished, priced, broken and
killed does not.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Literal

# Mid at the start, a pip, decimals, and the spread in pips.
PAIRS: dict[str, tuple[float, float, int, float]] = {
    "EUR_USD": (1.08500, 0.0001, 5, 1.2),
    "GBP_USD": (1.26000, 0.0001, 5, 1.4),
    "USD_JPY": (150.000, 0.01, 3, 1.0),
}

Do = Literal["enter", "exit", "halve", "flip", "limit", "stop", "cancel", "release"]


@dataclass(frozen=True, slots=True)
class Wish:
    """What a strategy wants in one bar. Distances are in pips from the price of that moment; `side` is 1 or -1.

    `pick` chooses among orders that wait, or stops and targets that stand, for what cancels one.
    """

    deployment: str
    symbol: str
    do: Do
    side: int = 1
    units: int = 0
    stop: int | None = None
    target: int | None = None
    trails: bool = False
    away: int = 0
    pick: float = 0.0


@dataclass(frozen=True, slots=True)
class Death:
    """How a trader ends: at its `count`th line of our code, at the `count`th time that it comes to a `point` of it, `after` so
    many seconds from outside, or as it should (`stop`). `starting` counts from its start, else from the bar."""

    how: Literal["line", "point", "time", "stop"]
    count: int = 1
    point: str = ""
    after: float = 0.0
    starting: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One bar. `moves` are where the prices are, in pips from the start; `while_dead` where they go while nobody trades."""

    moves: dict[str, int]
    wishes: tuple[Wish, ...]
    faults: tuple[dict[str, Any], ...] = ()
    death: Death | None = None
    while_dead: dict[str, int] | None = None
    again: bool = False  # the same bar once more after the death
    live_first: bool = True  # the bar closes when the trader is in step with the broker, if that comes soon
    waits: bool = True  # until all is done, before the next bar
    pause: float = 0.0


@dataclass(frozen=True, slots=True)
class Script:
    """One run. `exchange_dies` is the step in which the exchange itself ends, at a point of its own."""

    seed: int
    deployments: tuple[str, ...]
    symbols: tuple[str, ...]
    signal_lives: int
    steps: tuple[Step, ...]
    exchange_dies: tuple[int, str] | None = None
    strips: bool = False


# --- Deaths ------------------------------------------------------------------------------------------------------------------

# Functions of the trader's, as they are entered (>) or left (<).
POINTS = (
    "post>",
    "post<",
    "note<",
    "add_intent<",
    "update_intent<",
    "add_transactions<",
    "_apply<",
    "answered>",
    "_send>",
    "_send<",
    "submit_order>",
    "submit_order<",
)
RARER_POINTS = (
    "close_trade>",
    "close_trade<",
    "replace_order<",
    "cancel_order>",
    "cancel_order<",
    "set_trade_orders>",
    "set_trade_orders<",
    "_place<",
    "unknown<",
    "absent>",
    "send_again>",
    "_settled>",
    "go_on>",
    "compare>",
)
STARTING_POINTS = ("_load>", "_load<", "open<", "unknown<", "_apply<", "compare>", "fetched>", "remember<")


def _death(draw: random.Random) -> Death:
    how = draw.choices(("line", "point", "time", "stop"), (40, 35, 20, 5))[0]
    if how == "stop":
        return Death("stop", after=draw.uniform(0, 0.15))
    if how == "time":
        return Death("time", after=draw.choice((0.0, draw.uniform(0, 0.05), draw.uniform(0, 0.4))))
    starting = draw.random() < 0.2
    if how == "line":
        return Death("line", int(10 ** draw.uniform(0, 4)), starting=starting)
    point = draw.choice(STARTING_POINTS if starting else POINTS if draw.random() < 0.7 else RARER_POINTS)
    return Death("point", draw.choice((1, 1, 1, 2, 2, 3, 4)), point, starting=starting)


# --- Faults ------------------------------------------------------------------------------------------------------------------

WRITES = ({"method": "POST", "path": "*/orders"}, {"method": "PUT"}, {"method": "PUT", "path": "*/close"})
READS = ({"method": "GET", "path": "*/sinceid*"}, {"method": "GET"})
TRANSACTIONS = {"path": "*/transactions/stream"}
PRICES = {"path": "*/pricing/stream"}
KINDS = ("*", "ORDER_FILL", "*_ORDER", "ORDER_CANCEL", "HEARTBEAT")
EXCHANGE_POINTS = ("before_apply", "before_write", "after_write", "after_publish", "during_answer")


def _fault(draw: random.Random) -> dict[str, Any]:
    group = draw.choices(("write", "read", "transactions", "prices", "all"), (45, 12, 30, 6, 7))[0]
    if group == "write":
        match = dict(draw.choice(WRITES)) | {"times": draw.choice((1, 1, 1, 2, 3))}
        if draw.random() < 0.4:
            match["nth"] = draw.randint(1, 3)
        return {"match": match, "action": _on_request(draw)}
    if group == "read":
        match = dict(draw.choice(READS)) | {"times": draw.choice((1, 2, 3)), "probability": draw.choice((0.5, 1.0))}
        return {"match": match, "action": _on_request(draw, reads=True)}
    if group == "transactions":
        match = TRANSACTIONS | {"message": draw.choice(KINDS), "times": draw.choice((1, 1, 2, 4))}
        return {"match": match, "action": _on_message(draw)}
    if group == "prices":
        match = PRICES | {"message": draw.choice(("*", "PRICE", "HEARTBEAT")), "times": draw.choice((1, 2))}
        return {"match": match, "action": _on_message(draw)}
    if draw.random() < 0.5:
        return {"action": {"do": "disconnect"}}
    return {"action": {"do": "outage", "seconds": round(draw.uniform(0.1, 0.5), 2)}}


def _on_request(draw: random.Random, *, reads: bool = False) -> dict[str, Any]:
    when = draw.choice(("before", "after"))
    kinds: list[dict[str, Any]] = [
        {"do": "reset", "when": when},
        {"do": "close", "when": when},
        {"do": "truncate"},
        {"do": "garble"},
        {"do": "delay", "when": when, "seconds": round(draw.uniform(0.02, 0.3), 2)},
        {"do": "hang", "when": "after"},
        {"do": "answer", "when": "before", "status": 429},
        {"do": "answer", "when": when, "status": draw.choice((500, 502, 503, 504)), "html": draw.random() < 0.5},
        {"do": "drip", "bytes": 200, "seconds": 0.01},
    ]
    if reads:
        kinds += [{"do": "stale"}, {"do": "answer", "when": "before", "status": 503}]
    return draw.choice(kinds)


def _on_message(draw: random.Random) -> dict[str, Any]:
    when = draw.choice(("before", "after"))
    kinds: list[dict[str, Any]] = [
        {"do": "drop"},
        {"do": "drop"},
        {"do": "duplicate"},
        {"do": "duplicate"},
        {"do": "reorder"},
        {"do": "reorder"},
        {"do": "delay", "seconds": round(draw.uniform(0.02, 0.3), 2)},
        {"do": "split", "bytes": 7},
        {"do": "merge"},
        {"do": "cut", "then": draw.choice(("end", "close", "reset"))},
        {"do": "end", "when": when},
        {"do": "close", "when": when},
        {"do": "reset", "when": when},
        {"do": "silence"},
        {"do": "silence", "seconds": 0.3},
        {"do": "heartbeats_only", "seconds": 0.5},
        {"do": "send", "body": {"type": "SOMETHING_NEW"}},
        {"do": "add_field"},
    ]
    return draw.choice(kinds)


# --- Prices and wishes -------------------------------------------------------------------------------------------------------


def _moves(draw: random.Random, before: dict[str, int]) -> dict[str, int]:
    after = {}
    for symbol, at in before.items():
        jump = draw.random() < 0.4
        step = draw.choice((-1, 1)) * draw.randint(20, 70) if jump else draw.randint(-6, 6)
        after[symbol] = max(-200, min(200, at + step))
    return after


def _wish(draw: random.Random, deployment: str, symbols: tuple[str, ...]) -> Wish:
    do: Do = draw.choices(("enter", "exit", "halve", "flip", "limit", "stop", "cancel", "release"), (34, 14, 8, 14, 13, 5, 8, 4))[
        0
    ]
    kind = draw.random()
    return Wish(
        deployment,
        symbols[0] if draw.random() < 0.75 else draw.choice(symbols),
        do,
        side=draw.choice((-1, 1)),
        units=draw.choice((1, 100, 1000, 2000, draw.randint(2, 5000))),
        stop=draw.randint(8, 45) if kind < 0.85 else None,
        target=draw.randint(8, 60) if draw.random() < 0.6 else None,
        trails=draw.random() < 0.12,
        away=draw.randint(2, 20),
        pick=draw.random(),
    )


def make_script(seed: int) -> Script:
    """The run of this number."""
    draw = random.Random(f"deaths {seed}")
    deployments = ("alpha", "beta", "gamma")[: draw.choice((2, 2, 3))]
    symbols = ("EUR_USD", *draw.sample(("GBP_USD", "USD_JPY"), draw.choice((0, 0, 1, 2))))
    at = dict.fromkeys(symbols, 0)
    steps = []
    count = draw.randint(4, 6)
    deaths = set(draw.sample(range(count), draw.choice((1, 1, 2, 2, 3))))
    for number in range(count):
        at = _moves(draw, at)
        wishes = [
            _wish(draw, name, symbols)
            for name in deployments
            for _ in range(draw.choices((0, 1, 2), (15, 60, 25))[0] or (number == 0))
        ]
        draw.shuffle(wishes)
        death = _death(draw) if number in deaths else None
        away = _moves(draw, at) if death is not None and draw.random() < 0.5 else None
        faults = tuple(_fault(draw) for _ in range(draw.choices((0, 1, 2, 3), (30, 35, 25, 10))[0]))
        step = Step(
            at,
            tuple(wishes),
            faults,
            death,
            away,
            again=draw.random() < 0.6,
            live_first=draw.random() < 0.75,
            waits=draw.random() < 0.7,
            pause=draw.choice((0.0, draw.uniform(0, 0.15))),
        )
        at = away or at
        steps.append(step)
    dies = (draw.randrange(count), draw.choice(EXCHANGE_POINTS)) if draw.random() < 0.04 else None
    lives = draw.choice((90, 600))
    return Script(seed, deployments, symbols, lives, tuple(steps), dies, strips=draw.random() < 0.06)
