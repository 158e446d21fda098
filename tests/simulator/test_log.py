"""The log: what is in it, that a kill leaves all of a batch or nothing, and that an exchange goes on from it unchanged."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import pytest
from simulated import ACCOUNT, SECOND, TUESDAY

from mbats.errors import ConfigError, PlatformError
from mbats.simulator.core.engine import Engine
from mbats.simulator.core.times import write_time
from mbats.simulator.core.values import AccountConfig
from mbats.simulator.instruments import listing
from mbats.simulator.log import Log, MemoryLog, SqliteLog
from mbats.simulator.market import Market
from mbats.simulator.scripted import ScriptedSource

TX = [{"id": str(number), "type": "X", "accountID": "a", "text": "é\u0000\U0001f600"} for number in range(1, 8)]


@pytest.fixture(params=["memory", "sqlite"])
def log(request, tmp_path) -> Log:
    return MemoryLog() if request.param == "memory" else SqliteLog(tmp_path / "log")


def test_what_goes_in_comes_out_in_order(log):
    log.append(TX[:2], [], {"now": 1})
    log.append([], [{"change": "halt"}], {"now": 2})
    log.append(TX[2:], [{"change": "resume"}], {"now": 3})

    assert list(log.transactions()) == TX
    assert list(log.changes()) == [{"change": "halt"}, {"change": "resume"}]
    assert log.state() == {"now": 3}


def test_a_new_log_is_empty(log):
    assert (list(log.transactions()), list(log.changes()), log.state()) == ([], [], None)


def test_the_digest_is_of_what_happened_not_of_how_it_was_written(tmp_path):
    one, other, less = MemoryLog(), SqliteLog(tmp_path / "log"), MemoryLog()
    one.append(TX, [], {"now": 1})
    for transaction in TX:
        other.append([dict(reversed(transaction.items()))], [{"change": "halt"}], {"now": 2})
    less.append(TX[:-1], [], {"now": 1})

    assert one.digest() == other.digest()
    assert one.digest() != less.digest() != MemoryLog().digest()


def test_a_log_is_there_again_when_it_is_opened_again(tmp_path):
    with SqliteLog(tmp_path / "deep" / "log") as first:
        first.append(TX, [{"change": "halt"}], {"now": 1})
        digest = first.digest()
    with SqliteLog(tmp_path / "deep" / "log") as second:
        second.append(TX[:1], [], {"now": 2})

        assert list(second.transactions()) == [*TX, TX[0]]
        assert second.state() == {"now": 2}
        assert second.digest() != digest


def test_a_copy_is_what_was_there_and_lives_on_by_itself(log, tmp_path):
    log.append(TX[:3], [{"change": "halt"}], {"now": 1})

    log.copy_to(tmp_path / "copy")
    log.append(TX[3:], [], {"now": 2})

    with SqliteLog(tmp_path / "copy") as copy:
        copy.append(TX[:1], [], {"now": 3})
        assert list(copy.transactions()) == [*TX[:3], TX[0]]
    assert list(log.transactions()) == TX
    with pytest.raises(ConfigError, match="is there already"):
        log.copy_to(tmp_path / "copy")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.write_bytes(b"hello" * 1000), "cannot be read: file is not a database"),
        (lambda path: _database(path, "CREATE TABLE mine (x)"), "is a database of another program"),
        (lambda path: _database(path, "PRAGMA application_id = 7"), "is a database of another program"),
    ],
)
def test_a_file_that_is_no_log_is_left_alone(tmp_path, make, words):
    path = tmp_path / "log"
    make(path)
    content = path.read_bytes()

    with pytest.raises(ConfigError, match=words) as refusal:
        SqliteLog(path)
    assert str(path) in str(refusal.value)
    assert "MBATS_SIMULATOR_DATA" in str(refusal.value)
    assert path.read_bytes() == content


def _database(path, statement: str) -> None:
    with sqlite3.connect(path) as database:
        database.execute(statement)
    database.close()


def test_a_log_of_a_later_version_is_not_read(tmp_path):
    with SqliteLog(tmp_path / "log") as log:
        log.append(TX, [], {"now": 1})
    _database(tmp_path / "log", "UPDATE entries SET format = 99 WHERE number = 3")

    with pytest.raises(ConfigError, match=r"later version of MBATS \(rows of format 99, known up to 1\)"):
        SqliteLog(tmp_path / "log")


def test_two_simulators_cannot_share_a_log(tmp_path):
    with SqliteLog(tmp_path / "log"), pytest.raises(ConfigError, match="is open in another simulator"):
        SqliteLog(tmp_path / "log")
    SqliteLog(tmp_path / "log").close()


# --- Kill -9 ---------------------------------------------------------------------------------------------------------------

WRITER = """
import sys
from pathlib import Path
from mbats.simulator.log import SqliteLog

log = SqliteLog(Path(sys.argv[1]))
number = sum(1 for _ in log.transactions())
while True:
    first, size = number + 1, 1 + number % 7
    batch = [{"id": str(first + place), "batchID": str(first), "size": size, "text": "x" * 500} for place in range(size)]
    log.append(batch, [{"change": "tick", "of": first}], {"last": number + size})
    number += size
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
"""


def test_a_kill_in_the_middle_of_writing_leaves_all_of_a_batch_or_nothing_and_nothing_that_was_answered_is_lost(tmp_path):
    path, answered = tmp_path / "log", 0
    for attempt in range(6):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        answered = int(process.stdout.readline())
        time.sleep(0.02 * attempt)
        process.send_signal(signal.SIGKILL)
        answered = max(
            [answered, *(int(line) for line in process.stdout.read().splitlines(keepends=True) if line.endswith("\n"))]
        )
        process.wait()
        process.stdout.close()
        with SqliteLog(path) as log:
            found = list(log.transactions())
            changes = [change["of"] for change in log.changes()]
            state = log.state()
        assert len(found) >= answered
        assert [each["id"] for each in found] == [str(number) for number in range(1, len(found) + 1)]
        batches = [each for each in found if each["id"] == each["batchID"]]
        assert sum(batch["size"] for batch in batches) == len(found) == state["last"]
        assert changes == [int(batch["id"]) for batch in batches]
    assert answered > 100


def test_half_a_batch_is_no_batch(tmp_path, monkeypatch):
    """An append that fails half-way, here on a transaction that is no JSON, leaves the log as it was."""
    with SqliteLog(tmp_path / "log") as log:
        log.append(TX[:2], [], {"now": 1})
        with pytest.raises(TypeError):
            log.append([TX[2], {"id": object()}], [{"change": "halt"}], {"now": 2})
        with pytest.raises(PlatformError, match="What was to be written has not happened"):
            monkeypatch.setattr("mbats.simulator.log.FORMAT", "NULL")
            log.append(TX[2:], [], {"now": 2})
        monkeypatch.undo()
        assert (list(log.transactions()), list(log.changes()), log.state()) == (TX[:2], [], {"now": 1})
        log.append(TX[2:], [], {"now": 2})
        assert list(log.transactions()) == TX


# --- An exchange that goes on from its log -----------------------------------------------------------------------------------


class Kept:
    """An exchange on scripted prices that writes each step to a log, and forgets itself when it is told to."""

    def __init__(self, open_log: Callable[[], Log]) -> None:
        self._open = open_log
        self._begin()

    def _begin(self) -> None:
        self.log = self._open()
        self.market = Market(ScriptedSource({name: listing()[name] for name in ("EUR_USD", "USD_JPY")}))
        for change in self.log.changes():
            self.market.apply(change)
        self.engine = Engine(self.market, [AccountConfig(id=ACCOUNT)])
        if (state := self.log.state()) is not None:
            self.engine.restore(self.log.transactions(), state)
        self.engine.start(TUESDAY)

    def crash(self) -> None:
        self.log.close()
        self._begin()

    def step(self, kind: str, *more: object) -> None:
        changes = []
        if kind == "price":
            name, bid, ask = more
            changes = [{"change": "tick", "instrument": name, "bid": bid, "ask": ask, "time": write_time(self.engine.now)}]
            self.market.apply(changes[0])
            self.engine.forget_prices()
            self.engine.advance(self.engine.now + SECOND)
        elif kind == "until":
            self.engine.advance(np.datetime64(more[0], "us"))
        else:
            getattr(self.engine, kind)(ACCOUNT, *more)
        self.log.append(self.engine.take(), changes, self.engine.state())


def order(units: int, **more: object) -> dict[str, object]:
    return {"order": {"type": "MARKET", "instrument": "EUR_USD", "units": str(units)} | more}


STEPS = (
    ("price", "EUR_USD", "1.10000", "1.10010"),
    ("price", "USD_JPY", "150.000", "150.010"),
    ("create_order", order(1000, trailingStopLossOnFill={"distance": "0.00300"}, takeProfitOnFill={"price": "1.20"})),
    ("create_order", order(500, type="MARKET_IF_TOUCHED", price="1.10200")),
    ("price", "EUR_USD", "1.10100", "1.10110"),  # the stop trails
    ("create_order", order(300, type="LIMIT", price="1.09000", timeInForce="GFD", clientExtensions={"id": "a"})),
    ("price", "EUR_USD", "1.10250", "1.10260"),  # the touch
    ("configure", {"marginRate": "0.04"}),
    ("create_order", order(0)),
    ("price", "EUR_USD", "1.09900", "1.09910"),  # the stop
    ("until", "2024-03-05T22:00:01"),  # the end of the day: an order runs out, and financing
    ("price", "EUR_USD", "1.11000", "1.11010"),
    ("close_position", "EUR_USD", {"longUnits": "ALL"}),
)


def test_an_exchange_that_is_killed_after_any_step_goes_on_as_if_nothing_had_been(tmp_path):
    whole = Kept(MemoryLog)
    for step in STEPS:
        whole.step(*step)
    kinds = {transaction["type"] for transaction in whole.log.transactions()}
    assert {"DAILY_FINANCING", "ORDER_FILL", "ORDER_CANCEL", "CLIENT_CONFIGURE", "MARKET_ORDER_REJECT"} <= kinds

    for cut in range(len(STEPS)):
        path = tmp_path / str(cut)
        broken = Kept(lambda path=path: SqliteLog(path))
        for place, step in enumerate(STEPS):
            broken.step(*step)
            if place == cut:
                broken.crash()
        assert broken.log.digest() == whole.log.digest(), STEPS[cut]
        assert broken.engine.state() == whole.engine.state()
        broken.log.close()


def test_a_log_without_its_last_append_is_the_exchange_of_one_step_before(tmp_path):
    """What a kill between doing and writing leaves: the request never happened, and the exchange takes it again."""
    kept = Kept(lambda: SqliteLog(tmp_path / "log"))
    for step in STEPS[:4]:
        kept.step(*step)
    kept.engine.create_order(ACCOUNT, order(777))
    kept.crash()

    assert all(transaction.get("units") != "777" for transaction in kept.log.transactions())
    assert kept.engine.accounts[ACCOUNT].last_id == sum(1 for _ in kept.log.transactions())
    kept.log.close()
