"""Paper trading as a user has it: deployed with one command, seen in the risk database, halted at once, and never lost track of.

The market must be open, and at night and at weekends it is not: then the simulator's clock is put forward to a Wednesday, and the
trader follows that clock. At other times everything is as it is by default.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
from platforms import eventually
from stack import clients
from stack.clients import Broker, Trader, ask, get, is_of
from stack.leaks import leaks
from stack.substrate import Substrate

from mbats.market import to_us
from mbats.simulator.sessions import session_at

ACCOUNT = "101-004-1435156-001"
OPEN_FOR = timedelta(minutes=40)  # what these tests take at most
SOON = 60.0  # seconds within which a bar of five seconds comes and is acted upon, on a machine that is busy
SECONDS = 10.0  # what may pass until the risk database has what happened
BACK = 180.0  # seconds after which whatever was stopped is at work again
LEASE = 60.0  # seconds for which the right to trade outlives PostgreSQL
HELD, BUSY = "held", "busy"
# Whatever RSI and stochastic say: bought at the first bar, and kept with a stop far away.
HOLDS = {"low": "101", "high": "102", "risk": "0.002", "stop_atr": "400", "target_atr": "400"}
# In and out with every second bar or so of any of these, for a cent.
TRADED = ("GBP_USD", "AUD_USD", "USD_CAD", "USD_CHF")
TRADES = {"period": "2"}
UNLIMITED = {"max_loss_streak": "1000", "max_repeats": "1000"}


@dataclass(frozen=True)
class Trading:
    """Two deployments on paper, in an open market: one that holds a position, and one that comes and goes."""

    stack: Substrate
    trader: Trader
    broker: Broker

    def states(self) -> dict[str, tuple[str, str, str]]:
        """Of each deployment: the state of its process, whether it may trade, and why not."""
        return {name: (it["state"], it["trading"], it["reason"]) for name, it in self.trader.deployments().items()}

    def is_well(self, name: str) -> bool:
        return self.states().get(name) == ("live", "ACTIVE", "")

    def position(self) -> str:
        """What HELD holds, as the trader says."""
        return str(self.trader.deployments()[HELD]["positions"].get("USD_JPY", "0"))

    def protected(self) -> dict[str, tuple[str, str, str]]:
        """Of each trade of HELD at the broker: its units, and the numbers of its stop and its target, which must be there."""
        trades = self.broker.trades(HELD).values()
        return {each["id"]: (each["currentUnits"], each["stopLossOrder"]["id"], each["takeProfitOrder"]["id"]) for each in trades}

    def fills(self, *symbols: str) -> set[int]:
        """The numbers of all fills in these symbols, by the broker."""
        found = self.broker.transactions()
        return {int(each["id"]) for each in found if each["type"] == "ORDER_FILL" and each["instrument"] in symbols}

    def entries(self, after: str) -> list[dict[str, Any]]:
        """What BUSY has opened at the broker after this transaction."""
        return [each for each in self.broker.transactions(after) if each["type"] == "ORDER_FILL" and is_of(BUSY, each)]

    def last(self) -> str:
        """The number of the account's last transaction."""
        return str(self.broker.get("summary")["lastTransactionID"])

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        return clients.rows(self.stack, "reader", "risk", statement)

    def recorded_fills(self, deployment: str) -> list[int]:
        """The numbers of the deployment's fills in the risk database."""
        join = f"FROM fill JOIN run ON run.id = run_id WHERE run.deployment = '{deployment}'"
        return [number for (number,) in self.rows(f"SELECT seq {join} ORDER BY seq")]

    def is_written(self) -> bool:
        """Whether the risk database has all that the broker has booked."""
        written = self.rows(f"SELECT max(id) FROM broker_transaction WHERE account_id = '{ACCOUNT}'")
        return written >= [(int(self.last()),)]

    def require_trading(self, *, within: float = BACK) -> None:
        """Both are well, and BUSY opens something new."""
        for name in (HELD, BUSY):
            assert eventually(lambda name=name: self.is_well(name), within=within), self.states()
        before = self.last()
        assert eventually(lambda: bool(self.entries(before)), within=within), f"nothing new is traded: {self.states()}"

    def require_nothing_lost_or_doubled(self) -> None:
        """While nothing trades: each of the broker's fills is in the risk database once, and each order was sent once."""
        self.trader.tell("halt", BUSY)
        assert eventually(self.is_written, within=SECONDS), "the risk database lags behind"
        for deployment, symbols in ((HELD, ["USD_JPY"]), (BUSY, TRADED)):
            assert self.recorded_fills(deployment) == sorted(self.fills(*symbols)), f"fills of {deployment}"
        sent = [each["clientExtensions"]["id"] for each in self.broker.transactions() if is_order_of_ours(each)]
        assert len(sent) == len(set(sent)), "an order was sent twice"
        self.trader.tell("resume", BUSY)


def is_order_of_ours(transaction: dict[str, Any]) -> bool:
    return str(transaction["type"]).endswith("_ORDER") and (is_of(BUSY, transaction) or is_of(HELD, transaction))


def open_the_market(stack: Substrate) -> None:
    """Nothing when FX is open for a while; else the simulator's clock goes to the next Wednesday, and the trader's with it."""
    admin = stack.url("simulator-admin")
    clock = get(f"{admin}/clock").json()
    now, here = datetime.fromisoformat(clock["time"][:26] + "+00:00"), datetime.now(UTC)
    is_open, _, end = session_at(int(to_us(now).astype("int64")))
    if is_open and int(to_us(now + OPEN_FOR).astype("int64")) < end and abs(now - here) < timedelta(seconds=2):
        return
    noon = now.replace(hour=14, minute=0) + timedelta(days=(2 - now.weekday()) % 7 or 7)
    answer = ask("POST", f"{admin}/clock/jump", json={"seconds": (noon - now).total_seconds()})
    assert answer.ok, answer.text
    stack.up(MBATS_TRADER_CLOCK="broker")


def deploy(
    stack: Substrate, name: str, strategy: str, symbols: Iterable[str], parameters: dict[str, str], limits: dict[str, str]
) -> None:
    """Put the strategy on paper, with bars of five seconds, as a user does."""
    options = [part for each, value in parameters.items() for part in ("--param", f"{each}={value}")]
    options += [part for each, value in limits.items() for part in ("--limit", f"{each}={value}")]
    said = stack.mbats("deploy", strategy, "--symbols", ",".join(symbols), "--granularity", "S5", "--name", name, *options).stdout
    assert f"'{name}' is deployed on account 'paper', paper money (simulator)" in said


@pytest.fixture(scope="module")
def trading(stack: Substrate) -> Iterator[Trading]:
    open_the_market(stack)
    began = time.monotonic()
    deploy(stack, HELD, "rsi_stochastic", ("USD_JPY",), HOLDS, {})
    deploy(stack, BUSY, "_template", TRADED, TRADES, UNLIMITED)
    trading = Trading(stack, Trader(stack), Broker(stack, ACCOUNT))
    assert eventually(lambda: bool(trading.broker.trades(HELD)), within=SOON), f"nothing was bought: {trading.states()}"
    print(f"Deployed, and bought at the broker after {time.monotonic() - began:.0f} s ({stack.name})")
    yield trading
    for name in (HELD, BUSY):
        stack.mbats("flatten", name, check=False)
        stack.mbats("stop", name, check=False)


def test_what_is_deployed_trades_and_what_it_holds_is_protected_at_the_broker(trading):
    trading.require_trading(within=SOON)

    (trade,) = trading.broker.trades(HELD).values()
    assert trade["instrument"] == "USD_JPY" and int(trade["currentUnits"]) > 0
    assert len(trading.protected()) == 1, "with its stop and its target"
    assert trading.position() == trade["currentUnits"]


def test_the_first_run_has_put_a_strategy_on_paper_as_well(trading):
    listed = {each["name"]: each for each in json.loads(trading.stack.mbats("deployments", "--json").stdout)}

    assert set(listed) >= {"first", HELD, BUSY}
    assert (listed["first"]["strategy"], listed["first"]["mode"]) == ("rsi_stochastic", "paper")
    assert trading.is_well("first"), trading.states()


def test_what_happens_is_in_the_risk_database_within_seconds(trading):
    assert eventually(trading.is_written, within=SECONDS)

    (bought,) = trading.rows(f"SELECT state, units, stop IS NOT NULL FROM order_intent WHERE deployment = '{HELD}'")
    assert bought == ("filled", int(trading.position()), True)
    assert trading.rows(f"SELECT units FROM dash_live_positions WHERE deployment = '{HELD}'") == [(float(trading.position()),)]
    assert trading.recorded_fills(HELD) == sorted(trading.fills("USD_JPY"))
    assert trading.rows(f"SELECT count(*) > 0 FROM equity JOIN run ON run.id = run_id WHERE deployment = '{BUSY}'") == [(True,)]
    beats = dict(trading.rows("SELECT name, extract(epoch FROM now() - at) FROM heartbeat"))
    assert {name for name, age in beats.items() if age < 30} >= {"trader", f"deployment:{HELD}", f"deployment:{BUSY}"}
    seen = dict(clients.rows(trading.stack, "dashboard", "risk", "SELECT deployment, state FROM dash_deployments"))
    assert (seen[HELD], seen[BUSY]) == ("live", "live")


def test_a_halt_holds_within_a_second_and_a_resume_ends_it(trading):
    trading.require_trading()

    began = time.monotonic()
    trading.trader.tell("halt", BUSY)
    passed = time.monotonic() - began

    after = trading.last()
    assert passed < 1
    assert eventually(lambda: trading.states()[BUSY][1] == "HALTED", within=2)
    assert not eventually(lambda: bool(trading.entries(after)), within=15), "it trades though it is halted"
    assert trading.states()[HELD][1] == "ACTIVE" and len(trading.protected()) == 1, "the other one is left alone"
    assert eventually(trading.is_written, within=SECONDS)
    assert trading.rows(f"SELECT count(*) FROM risk_event WHERE code = 'halt' AND deployment = '{BUSY}'") >= [(1,)]

    said = trading.stack.mbats("resume", BUSY).stdout
    assert f"{BUSY}: resumed." in said
    trading.require_trading()


def test_a_halt_on_the_command_line_is_obeyed(trading):
    said = trading.stack.mbats("halt", BUSY, "--why", "to see it").stdout

    assert f"{BUSY}: halted." in said
    assert eventually(lambda: trading.states()[BUSY][1] == "HALTED", within=2)
    assert eventually(
        lambda: (
            trading.rows(f"SELECT count(*) FROM risk_event WHERE deployment = '{BUSY}' AND sentence LIKE '%to see it'") == [(1,)]
        )
    )
    trading.stack.mbats("resume", BUSY)


def test_a_trader_that_is_killed_comes_back_and_takes_up_its_position_and_its_stop(trading):
    trading.require_trading()
    before = trading.protected()

    trading.stack.kill("trader")

    assert trading.protected() == before, "the broker has them, whoever lives"
    trading.require_trading()
    assert trading.protected() == before, "the same trade with the same stop and target, and no other"
    assert trading.position() == next(iter(before.values()))[0]
    trading.require_nothing_lost_or_doubled()


def test_a_command_that_finds_no_trader_is_obeyed_when_it_is_back(trading):
    trading.require_trading()
    trading.stack.stop("trader")

    said = trading.stack.mbats("halt", BUSY, check=False)
    trading.stack.start_again("trader")

    assert said.returncode == 1 and "NOT OBEYED YET: 'halt' waits in" in said.stdout
    assert eventually(lambda: trading.states().get(BUSY, ("", ""))[:2] == ("live", "HALTED"), within=BACK), trading.states()
    assert eventually(lambda: trading.is_well(HELD), within=BACK)
    trading.stack.mbats("resume", BUSY)
    trading.require_trading()


def test_without_postgresql_positions_keep_their_stops_and_soon_nothing_new_is_opened(trading):
    trading.require_trading()
    before, traders = trading.protected(), trading.stack.started()["trader"]
    trading.stack.stop("postgres")
    try:
        stopped = trading.last()
        assert eventually(lambda: bool(trading.entries(stopped)), within=LEASE * 2 / 3), "it trades on while it has the right to"
        assert eventually(lambda: "the right to trade" in trading.states()[HELD][2], within=2 * LEASE), trading.states()
        # What was on its way when the right ran out may still be filled; after that, nothing.
        time.sleep(2)
        fenced = trading.last()
        assert not eventually(lambda: bool(trading.entries(fenced)), within=20), "a new position without the right to trade"
        assert trading.protected() == before
        assert get(f"{trading.trader.url}/healthz").status_code == 200, "a restart of the trader would not mend it"
    finally:
        trading.stack.start_again("postgres")
    trading.require_trading()
    assert trading.stack.started()["trader"] == traders
    assert trading.protected() == before
    assert eventually(trading.is_written, within=BACK)
    trading.require_nothing_lost_or_doubled()
    trading.stack.wait_well(timeout=BACK)


def test_a_restart_of_the_whole_platform_keeps_what_is_deployed_and_what_is_held(trading):
    before = trading.protected()

    trading.stack.restart_all()

    trading.require_trading()
    assert trading.protected() == before
    assert trading.position() == next(iter(before.values()))[0]
    trading.require_nothing_lost_or_doubled()


def test_no_secret_stands_where_strategies_are_traded(trading):
    assert "mbats.live.process" in trading.stack.processes(), "each strategy in a process of its own"
    assert leaks(trading.stack) == set()


def test_nobody_commands_the_trader_without_its_token(trading):
    for token in ("", "wrong", trading.stack.secret("simulator_token")):
        answer = requests.post(
            f"{trading.trader.url}/flatten", json={"by": "a stranger", "why": "-"}, headers={"Authorization": f"Bearer {token}"}
        )
        assert answer.status_code == 401
    assert len(trading.protected()) == 1


def test_a_flatten_closes_what_is_held_and_leaves_nothing_at_the_broker(trading):
    trading.stack.mbats("flatten", HELD)

    assert eventually(lambda: trading.broker.trades(HELD) == {}, within=SOON)
    assert eventually(lambda: trading.states()[HELD][1] == "HALTED" and trading.position() == "0", within=SOON)
    assert [each for each in trading.broker.get("pendingOrders")["orders"] if each.get("instrument") == "USD_JPY"] == []
    assert eventually(
        lambda: trading.rows(f"SELECT * FROM dash_live_positions WHERE deployment = '{HELD}'") == [], within=SECONDS
    )
