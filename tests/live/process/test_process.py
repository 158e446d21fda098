"""The real process at the end of a real pipe: how it begins, how it fails, and that it never outlives its trader."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np
import pytest
from live.process.trader import START, adopt, begin, child, minutes, money, news, one_bar, past
from samples import random_bars

from mbats.errors import DataError
from mbats.live.process import Past, PeerGone, Pipe, strategys_end, traders_end
from mbats.live.wire import Broken, Done, History, Moment, Quit, Ready, Status, Submit, encode
from mbats.market import Bars

SOURCE = """
import random
import numpy as np
import backtrader as bt


class InTest(bt.Strategy):
    params = dict(code="")

    def next(self):
        exec(self.p.code)

    def fail(self):
        raise RuntimeError("on purpose")

    def notify_order(self, order):
        if order.status == order.Completed:
            self.sell(size=2)
"""


def ready(process: Any, code: str = "", **more: Any) -> None:
    assert process.start(begin(SOURCE, code=code, **more), [past("EUR_USD", minutes(0, 3))], adopt()) == Ready(3)


def test_a_process_says_what_it_decides_then_done_and_ends_when_it_is_told():
    with child() as process:
        ready(process, "self.buy(size=7)")

        first, second = process.moment(one_bar(3)), process.moment(one_bar(4))
        process.pipe.send(Quit("the test is over"))

        assert [submit.units for submit in (*first, *second)] == [7, 7]
        assert process.pipe.receive() is None
        assert process.process.wait(timeout=60) == 0


def test_a_process_that_was_told_to_end_ends_in_its_own_time_even_when_the_pipe_is_closed_behind_it():
    source = SOURCE + "\n    def stop(self):\n        import time\n        time.sleep(1)\n"
    with child() as process:
        process.start(begin(source), [past("EUR_USD", minutes(0, 3))], adopt())
        process.pipe.send(Quit())
        process.pipe.close()

        assert process.process.wait(timeout=60) == 0


def test_news_wakes_the_strategy_between_bars(capsys: pytest.CaptureFixture[str]):
    with child() as process:
        ready(process, "self.buy(size=1) if len(self) == 4 else None")
        (entry,) = process.moment(one_bar(3))
        started = time.perf_counter()
        process.pipe.send(news(entry.ref, Status.COMPLETED, 1, "1.1"))
        answer = process.until(Submit)
        took = time.perf_counter() - started

        assert (answer.units, answer.bar) == (-2, one_bar(3).bars["EUR_USD"].time)
    with capsys.disabled():
        print(f" [news to order in {took * 1000:.1f} ms]", end="")


def test_a_moment_without_bars_is_answered_and_decides_nothing():
    with child() as process:
        ready(process, "self.buy(size=1)")

        assert process.moment(Moment(START, {}, money())) == []


def test_an_error_in_the_strategy_is_told_with_its_line():
    with child() as process:
        ready(process, "self.fail()")
        process.pipe.send(one_bar(3))

        broken = process.until(Done)

        assert broken == Broken("RuntimeError: on purpose", where='strategies/in_test.py:14 `raise RuntimeError("on purpose")`')
        assert process.process.wait(timeout=60) == 1


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("raise SystemExit(0)", "SystemExit: 0"),
        ("self.env.runstop()", "The strategy ended its own run (runstop); live, only the trader ends one."),
        ("int('x')", "ValueError: invalid literal for int() with base 10: 'x'"),
        ("input()", "EOFError: EOF when reading a line"),
    ],
)
def test_whatever_ends_a_strategy_is_told(code: str, message: str):
    with child() as process:
        ready(process, code)
        process.pipe.send(one_bar(3))

        assert process.until(Broken).message == message
        assert process.process.wait(timeout=60) == 1


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import nothing_of_this_name", "Strategy 'in_test' cannot be loaded from strategies/in_test.py: ModuleNotFoundError"),
        ("x = 1", "must define one class derived from backtrader.Strategy; found none"),
    ],
)
def test_a_strategy_that_cannot_be_loaded_is_told(source: str, message: str):
    whole = begin(SOURCE)
    with child() as process:
        first = type(whole)(whole.deployment | {"source": source}, whole.instruments, whole.currency)

        broken = process.start(first, [past("EUR_USD", minutes(0, 3))], adopt())

        assert message in broken.message
        assert process.process.wait(timeout=60) == 1


def test_what_is_no_message_or_comes_out_of_turn_ends_the_process():
    with child() as process:
        process.pipe.send(one_bar(3))
        assert process.until(Ready) == Broken("Expected Begin, but the trader said Moment; nothing was run.")
    with child() as process:
        ready(process)
        process.pipe._connection.send_bytes(b'{"type": "surprise"}')
        assert process.until(Ready).message.startswith("What came through the pipe is no message:")
    with child() as process:
        ready(process)
        process.pipe.send(adopt())
        assert "got Adopt" in process.until(Ready).message


def test_random_numbers_follow_from_the_seed_of_the_deployment():
    drawn = []
    for seed in (1, 1, 2):
        with child() as process:
            ready(process, "self.buy(size=1 + random.randrange(10**6) + np.random.randint(10**6))", seed=seed)
            drawn.append([submit.units for submit in process.moment(one_bar(3))])

    assert drawn[0] == drawn[1] != drawn[2]


def test_a_process_ends_with_its_trader_while_it_waits_and_while_it_decides():
    for code, after in (("", []), ("while True: pass", [one_bar(3)])):
        with child() as process:
            ready(process, code)
            for message in after:
                process.pipe.send(message)
            process.pipe.close()

            assert process.process.wait(timeout=60) == 3


TRADER = """
import os, socket, subprocess, sys
from mbats.live.process import child_command
ours, theirs = socket.socketpair()
child = subprocess.Popen(child_command(theirs.fileno()), pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
theirs.close()
print(child.pid, flush=True)
sys.stdin.read()
"""


def test_a_process_ends_when_its_trader_is_killed():
    trader = subprocess.Popen([sys.executable, "-c", TRADER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert trader.stdout is not None and trader.stdin is not None
    pid = int(trader.stdout.readline())
    ended = os.pidfd_open(pid)

    trader.kill()
    trader.wait()

    import select

    assert select.select([ended], [], [], 60)[0] == [ended]
    os.close(ended)
    trader.stdin.close()
    trader.stdout.close()


def test_a_process_leaves_ctrl_c_to_its_trader():
    with child() as process:
        ready(process, "self.buy(size=1)")
        process.process.send_signal(signal.SIGINT)

        assert len(process.moment(one_bar(3))) == 1


def test_the_trader_hears_the_end_of_a_process_that_was_killed_and_can_send_it_nothing():
    with child() as process:
        ready(process)
        process.process.kill()

        assert process.pipe.receive() is None
        with pytest.raises(PeerGone, match="Nothing more is sent to it"):
            process.pipe.send(one_bar(3))


def test_the_trader_never_waits_for_a_strategy_that_is_busy():
    with child() as process:
        ready(process, "while len(self) == 4: pass")
        bars = [one_bar(n) for n in range(3, 6000)]  # far more than a pipe holds
        for moment in bars:
            process.pipe.send(moment)

        process.pipe.close()
        assert process.process.wait(timeout=60) == 3


# --- the pipe --------------------------------------------------------------------------------------------------------------


def pipes() -> tuple[Pipe, Pipe]:
    import socket

    ours, theirs = socket.socketpair()
    return traders_end(ours.detach()), strategys_end(theirs.detach())


@pytest.mark.parametrize("count", [0, 1, 5000])
def test_history_arrives_bit_for_bit(count: int):
    trader, process = pipes()
    bars = random_bars(np.datetime64("2024-03-05", "us") + np.arange(count) * np.timedelta64(1, "m"))
    worth = np.random.default_rng(1).random(count)
    received: list[Any] = []
    reader = threading.Thread(target=lambda: received.append(process.receive()))
    reader.start()

    trader.send_bars(History("EUR_USD", count), bars, worth)
    reader.join(timeout=60)

    (arrived,) = received
    assert isinstance(arrived, Past)
    assert (arrived.symbol, arrived.bars.fingerprint()) == ("EUR_USD", bars.fingerprint())
    assert arrived.conversions.tobytes() == worth.tobytes()
    trader.close()
    process.close()


def test_history_of_another_length_than_was_announced_is_refused():
    trader, process = pipes()
    trader._send(encode(History("EUR_USD", 2)), b"x" * 88)

    with pytest.raises(DataError, match="2 bars of history were announced, and 88 bytes came"):
        process.receive()
    trader.close()
    process.close()


def test_messages_of_many_threads_arrive_whole():
    trader, process = pipes()
    moments = [one_bar(n) for n in range(3, 8)]
    bars = Bars.concatenate([minutes(0, 50)])

    def talk() -> None:
        for moment in moments:
            trader.send(moment)
            trader.send_bars(History("EUR_USD", 50), bars, np.ones(50))

    threads = [threading.Thread(target=talk) for _ in range(8)]
    for thread in threads:
        thread.start()
    received = [process.receive() for _ in range(80)]
    for thread in threads:
        thread.join()

    assert sorted(type(message).__name__ for message in received) == ["Moment"] * 40 + ["Past"] * 40
    trader.close()
    assert process.receive() is None
    process.close()
