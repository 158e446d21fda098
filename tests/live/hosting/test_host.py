"""Processes of deployments, real ones: spoken to, listened to, started again, given up on, and gone with whoever started them."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from platforms import eventually

from mbats.errors import ConfigError, OandaUnavailable
from mbats.live.deployment import State
from mbats.live.hosting import host as host_module
from mbats.live.hosting.host import Host, Hosted
from mbats.live.hosting.session import End, EndKind, Session
from mbats.live.wire import Broken, Done, FromStrategy, Moment, Money, OrderEvent, Ready, Status, Submit

# What stands in for a strategy's process, and starts twenty times as fast. What it does is its argument.
CHILD = textwrap.dedent(
    """
    import json, os, signal, sys, time
    from multiprocessing.connection import Connection
    pipe, mode = Connection(int(sys.argv[1])), sys.argv[2]
    say = lambda **message: pipe.send_bytes(json.dumps(message).encode())
    if mode == "dies":
        sys.exit(7)
    if mode == "breaks":
        say(type="broken", message="ZeroDivisionError: division by zero", where="rsi.py:12")
        sys.exit(1)
    if mode == "hangs at start":
        time.sleep(600)
    if mode == "leaves a child":
        if os.fork() == 0:
            time.sleep(600)
        open(sys.argv[3], "w").write("")
        os._exit(3)
    if mode == "talks nonsense":
        pipe.send_bytes(b"{}")
        time.sleep(600)
    if mode == "hangs up":
        pipe.close()
        time.sleep(600)
    if mode == "reads nothing":
        say(type="ready", bars=0)
        time.sleep(600)
    if mode == "shows its surroundings":
        say(type="broken", message=json.dumps([dict(os.environ), sorted(os.listdir("/proc/self/fd")), os.read(0, 1).decode()]))
        sys.exit(1)
    if mode == "ignores everything":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    say(type="ready", bars=0)
    while True:
        try:
            message = json.loads(pipe.recv_bytes())
        except EOFError:
            if mode == "ignores everything":
                time.sleep(600)
            sys.exit(3)
        kind = message["type"]
        if kind == "quit" and mode != "ignores everything":
            sys.exit(0)
        if kind == "moment" and mode != "hangs at a bar":
            say(type="done", time=message["time"])
        if kind == "order" and mode == "dies at news":
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "order":
            units = message["units"]
            say(type="submit", ref=1, symbol="EUR_USD", units=units, form="market", bar="2024-05-14T10:00:00Z")
    """
)
NOW = datetime(2024, 5, 14, 10, 0, tzinfo=UTC)
MONEY = Money(Decimal(1), Decimal(1), Decimal(0))


class NoLuck:
    """Pauses without their spread, a hundredth as long."""

    def random(self) -> float:
        return 0.5


class Book:
    """What the host says, written down. `begin` is what a session begins with."""

    def __init__(self) -> None:
        self.begin_with: Callable[[Session], None] = lambda session: None
        self.said: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self.sessions: list[Session] = []
        self.states: list[tuple[str, Hosted]] = []
        self.ends: list[End] = []
        self.order: list[str] = []

    def begin(self, session: Session) -> None:
        self.sessions.append(session)
        self.order.append("begin")
        self.begin_with(session)

    def message(self, session: Session, message: FromStrategy) -> None:
        self.said.put((session.name, message))

    def ended(self, session: Session, end: End) -> None:
        self.order.append("ended")
        self.ends.append(end)

    def changed(self, name: str, hosted: Hosted) -> None:
        self.states.append((name, hosted))

    def hear(self, timeout: float = 20) -> FromStrategy:
        return self.said.get(timeout=timeout)[1]

    def words(self) -> list[str]:
        return [str(hosted.state) for _, hosted in self.states]


@pytest.fixture
def book() -> Book:
    return Book()


@pytest.fixture
def make_host(book: Book, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Host]]:
    """A host whose processes behave as `mode` says, and whose pauses are a hundredth of the real ones."""
    made: list[Host] = []
    real = host_module.after_end

    def quick(*args: Any, **kwargs: Any) -> Any:
        restarts, pause = real(*args, **kwargs)
        return restarts, None if pause is None else pause / 100

    monkeypatch.setattr(host_module, "after_end", quick)

    def make(mode: str, *more: str, **options: Any) -> Host:
        command = lambda fd: [sys.executable, "-I", "-S", "-c", CHILD, str(fd), mode, *more]  # noqa: E731
        made.append(Host(book, command=command, draw=NoLuck(), **options))
        return made[-1]

    yield make
    for host in made:
        host.close("the test ends", grace=0.5)
        assert not host.alive
    assert [session.name for session in book.sessions if session.alive] == []


def is_in(host: Host, state: State, name: str = "rsi") -> Callable[[], bool]:
    return lambda: host.hosted(name).state is state


def moment(minute: int) -> Moment:
    return Moment(NOW + timedelta(minutes=minute), {}, MONEY)


def event(units: int) -> OrderEvent:
    return OrderEvent(None, "EUR_USD", Status.COMPLETED, NOW, units=Decimal(units), price=Decimal("1.1"), position=Decimal(units))


def start(host: Host) -> Session:
    host.start("rsi")
    assert eventually(is_in(host, State.LIVE))
    session = host.session("rsi")
    assert session is not None
    return session


# --- One life ---------------------------------------------------------------------------------------------------------------


def test_a_process_is_begun_speaks_answers_and_ends_when_it_is_asked_to(make_host, book):
    host = make_host("obeys")
    session = start(host)

    session.send(moment(5))
    assert [book.hear(), book.hear()] == [Ready(0), Done(NOW + timedelta(minutes=5))]
    assert host.stop("rsi", "enough") is True

    assert book.ends == [End(EndKind.ASKED, "enough", 0)]
    assert book.words() == ["starting", "live", "stopped"]
    assert host.session("rsi") is None and not session.alive
    assert host.hosted("rsi").reason == "enough"


def test_what_it_is_begun_with_comes_before_what_others_send_meanwhile(make_host, book):
    sent = threading.Event()

    def begin(session: Session) -> None:
        threading.Thread(target=lambda: (session.send(event(2)), sent.set())).start()
        sent.wait(10)
        session.send(event(1))

    book.begin_with = begin
    start(make_host("obeys"))

    assert isinstance(book.hear(), Ready)
    first, second = book.hear(), book.hear()
    assert isinstance(first, Submit) and isinstance(second, Submit)
    assert [first.units, second.units] == [1, 2]


def test_many_threads_may_send_at_once_and_nothing_is_lost_or_torn(make_host, book):
    session = start(make_host("obeys"))
    assert isinstance(book.hear(), Ready)

    threads = [threading.Thread(target=lambda n=n: [session.send(event(n * 100 + k)) for k in range(1, 51)]) for n in range(8)]
    for thread in threads:
        thread.start()
    got = [book.hear() for _ in range(400)]

    assert {message.units for message in got} == {n * 100 + k for n in range(8) for k in range(1, 51)}
    for n in range(8):
        mine = [message.units for message in got if n * 100 < message.units <= n * 100 + 50]
        assert mine == sorted(mine), "those of one thread keep their order"


def test_sending_never_waits_for_a_process_that_reads_nothing(make_host):
    session = start(make_host("reads nothing"))

    for _ in range(20_000):  # several megabytes, far more than a pipe holds; with a `send` that waited, this would never end
        session.send(event(1))

    assert session.alive


def test_history_is_sent_by_begin_alone(make_host):
    session = start(make_host("obeys"))

    with pytest.raises(RuntimeError, match="begin"):
        session.send_bars(None, None, None)


def test_a_process_gets_no_setting_no_secret_no_input_and_no_other_pipe(make_host, book, monkeypatch):
    monkeypatch.setenv("MBATS_OANDA_TOKEN", "a-secret")
    host = make_host("shows its surroundings")

    host.start("rsi")

    import json

    environment, descriptors, said = json.loads(book.hear().message)
    assert [name for name in environment if name.startswith("MBATS_")] == []
    assert environment["OMP_NUM_THREADS"] == "1"
    assert said == ""
    # 0, 1, 2, its end of the pipe, and the folder that it is reading.
    assert len(descriptors) == 5


# --- Deaths -----------------------------------------------------------------------------------------------------------------


def test_one_that_dies_is_started_again_and_given_up_on_after_the_fifth_time_in_a_minute(make_host, book):
    host = make_host("dies")

    host.start("rsi")

    assert eventually(is_in(host, State.FAILED))
    assert book.words() == [*(["starting", "waiting"] * 4), "starting", "failed"]
    assert [end.code for end in book.ends] == [7] * 5
    assert book.order == ["begin", "ended"] * 5 or sorted(book.order) == ["begin"] * book.order.count("begin") + ["ended"] * 5
    assert "5 times within a minute" in host.hosted("rsi").reason and "exit code 7" in host.hosted("rsi").reason
    assert host.hosted("rsi").restarts == 4
    again = [hosted.again_at for _, hosted in book.states if hosted.state is State.WAITING]
    assert all(at is not None for at in again)


def test_one_that_was_given_up_on_starts_again_when_a_person_says_so(make_host, book):
    host = make_host("dies")
    host.start("rsi")
    assert eventually(is_in(host, State.FAILED))

    host.start("rsi")

    assert eventually(lambda: len(book.ends) == 10)
    assert eventually(is_in(host, State.FAILED))


def test_the_reason_is_what_the_strategy_said_with_its_line(make_host, book):
    host = make_host("breaks")

    host.start("rsi")

    assert eventually(lambda: bool(book.ends))
    assert book.ends[0] == End(EndKind.DIED, "ZeroDivisionError: division by zero (rsi.py:12)", 1)
    assert book.hear() == Broken("ZeroDivisionError: division by zero", "rsi.py:12")


def test_a_kill_from_outside_is_a_death_that_names_the_signal(make_host, book):
    host = make_host("obeys")
    session = start(host)

    os.kill(session.pid, signal.SIGKILL)

    assert eventually(lambda: book.words().count("live") == 2)
    assert (book.ends[0].kind, book.ends[0].code) == (EndKind.DIED, -9)
    assert "signal 9" in book.ends[0].reason
    assert host.session("rsi") is not session
    session.send(event(1))  # to one that is gone: nothing, and no exception


def test_what_it_said_before_it_died_is_heard_before_its_end(make_host, book):
    host = make_host("dies at news")
    book.begin_with = lambda session: [session.send(moment(n)) for n in range(50)] and session.send(event(1))

    host.start("rsi")

    assert eventually(lambda: bool(book.ends))
    heard = [book.hear() for _ in range(51)]
    assert heard[1:] == [Done(NOW + timedelta(minutes=n)) for n in range(50)]


@pytest.mark.parametrize(
    ("mode", "patience"), [("hangs at a bar", {"patience": 0.3}), ("hangs at start", {"start_patience": 0.3})]
)
def test_one_that_does_not_answer_is_ended_and_started_again(make_host, book, mode, patience):
    host = make_host(mode, **patience)
    book.begin_with = lambda session: session.send(moment(1))

    host.start("rsi")

    assert eventually(lambda: len(book.ends) >= 2)
    assert book.ends[0].code == -9
    assert "did not answer for" in book.ends[0].reason


def test_one_that_owes_nothing_is_left_alone_however_long_it_is_silent(make_host, book):
    host = make_host("obeys", patience=0.2)
    session = start(host)
    session.send(moment(1))
    assert [type(book.hear()) for _ in range(2)] == [Ready, Done]

    time.sleep(1.5)

    assert session.alive and session.waiting(time.monotonic() + 1000) == 0


@pytest.mark.parametrize(("mode", "reason"), [("talks nonsense", "could not be taken"), ("hangs up", "hung up")])
def test_one_that_cannot_be_understood_or_hangs_up_is_ended(make_host, book, monkeypatch, mode, reason):
    monkeypatch.setattr("mbats.live.hosting.session.BURIAL", 0.2)
    host = make_host(mode)

    host.start("rsi")

    assert eventually(lambda: bool(book.ends))
    assert (book.ends[0].kind, book.ends[0].code) == (EndKind.DIED, -9)
    assert reason in book.ends[0].reason


def test_a_pipe_that_a_child_of_the_process_holds_open_keeps_nobody_waiting(make_host, book, tmp_path):
    host = make_host("leaves a child", str(tmp_path / "forked"))

    host.start("rsi")

    assert eventually(lambda: bool(book.ends), within=10)
    assert book.ends[0].code == 3


def test_a_message_that_the_trader_cannot_take_ends_the_process_that_said_it(make_host, book, monkeypatch):
    def refuse(session: Session, message: FromStrategy) -> None:
        if isinstance(message, Submit):
            raise RuntimeError("the journal is full")

    monkeypatch.setattr(book, "message", refuse)
    session = start(make_host("obeys"))

    session.send(event(1))

    assert eventually(lambda: bool(book.ends))
    assert "RuntimeError: the journal is full" in book.ends[0].reason


# --- What it needs to begin -------------------------------------------------------------------------------------------------


def test_a_broker_that_is_away_is_waited_for_without_an_end(make_host, book):
    def away(session: Session) -> None:
        if len(book.sessions) < 8:
            raise OandaUnavailable("OANDA does not answer.")

    book.begin_with = away
    host = make_host("obeys")

    host.start("rsi")

    assert eventually(lambda: "live" in book.words()[-1:] and len(book.sessions) == 8)
    assert {(end.kind, end.reason) for end in book.ends} == {(EndKind.NOT_READY, "OANDA does not answer.")}
    assert State.FAILED not in [hosted.state for _, hosted in book.states]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ConfigError("The account is a live one."), "The account is a live one."),
        (KeyError("x"), "cannot be begun: KeyError: 'x'"),
    ],
)
def test_what_waiting_does_not_mend_counts_as_a_death(make_host, book, error, reason):
    def fail(session: Session) -> None:
        raise error

    book.begin_with = fail
    host = make_host("obeys")

    host.start("rsi")

    assert eventually(is_in(host, State.FAILED))
    assert reason in host.hosted("rsi").reason


def test_the_end_is_told_only_when_begin_has_returned(make_host, book):
    go_on = threading.Event()
    book.begin_with = lambda session: go_on.wait(30) and None
    host = make_host("dies")
    host.start("rsi")
    assert eventually(lambda: bool(book.sessions) and not book.sessions[0].alive)

    assert book.ends == []
    go_on.set()

    assert eventually(lambda: len(book.ends) == 5)


def test_a_command_that_cannot_be_executed_is_a_death_too(book):
    host = Host(book, command=lambda fd: ["/no/such/program"])
    host.start("rsi")

    assert eventually(lambda: "waiting" in book.words())
    assert "cannot be started" in host.hosted("rsi").reason
    host.close("the test ends")


# --- Start and stop ---------------------------------------------------------------------------------------------------------


def test_one_that_ignores_everything_is_killed_when_its_time_is_over(make_host, book):
    host = make_host("ignores everything")
    session = start(host)

    assert host.stop("rsi", "enough", grace=0.2) is True

    assert not session.alive
    assert book.ends == [End(EndKind.ASKED, "enough", -9)]
    assert book.words()[-1] == "stopped"


def test_one_that_was_stopped_stays_so(make_host, book):
    host = make_host("dies")
    host.start("rsi")
    assert eventually(lambda: "waiting" in book.words())

    host.stop("rsi", "enough")
    count = len(book.sessions)
    time.sleep(0.5)

    assert host.hosted("rsi").state is State.STOPPED
    assert len(book.sessions) == count


@pytest.fixture
def waiting(make_host, book, monkeypatch) -> Host:
    """A host whose one process has died, and would be started again after an hour."""
    monkeypatch.setattr(host_module, "after_end", lambda restarts, *args, **kwargs: (restarts, 3600.0))
    host = make_host("dies")
    host.start("rsi")
    assert eventually(is_in(host, State.WAITING))
    return host


def test_one_that_waits_is_not_started_when_it_was_stopped_meanwhile(waiting, book, monkeypatch):
    assert waiting.stop("rsi", "enough") is True
    monkeypatch.setattr(host_module.time, "monotonic", lambda real=time.monotonic: real() + 7200)

    time.sleep(1.2)  # two looks

    assert len(book.sessions) == 1
    assert waiting.hosted("rsi").state is State.STOPPED


def test_a_person_who_starts_one_that_waits_does_not_wait(waiting, book):
    waiting.start("rsi")

    assert eventually(lambda: len(book.sessions) == 2)


def test_starting_what_runs_changes_nothing(make_host, book):
    host = make_host("obeys")
    session = start(host)

    host.start("rsi")
    session.send(moment(1))

    assert [type(book.hear()) for _ in range(2)] == [Ready, Done]
    assert host.session("rsi") is session


def test_one_that_is_started_while_it_ends_comes_back(make_host, book):
    host = make_host("obeys")
    first = start(host)
    stopping = threading.Thread(target=host.stop, args=("rsi", "enough"))
    stopping.start()
    host.start("rsi")
    stopping.join(20)
    host.start("rsi")

    assert eventually(lambda: is_in(host, State.LIVE)() and host.session("rsi") is not first)


def test_stopping_what_nobody_knows_returns_at_once(make_host):
    host = make_host("obeys")

    assert host.stop("nobody", "enough") is True
    assert host.hosted("nobody") == Hosted(State.STOPPED)
    assert host.session("nobody") is None


def test_one_that_dies_takes_no_other_with_it(make_host, book):
    host = make_host("obeys")
    for name in ("a", "b", "c"):
        host.start(name)
    assert eventually(lambda: all(is_in(host, State.LIVE, name)() for name in ("a", "b", "c")))
    others = {name: host.session(name) for name in ("b", "c")}

    os.kill(host.session("a").pid, signal.SIGKILL)

    assert eventually(lambda: len(book.ends) == 1 and is_in(host, State.LIVE, "a")())
    assert {name: host.session(name) for name in ("b", "c")} == others


def test_a_host_that_closes_leaves_no_process(make_host, book):
    host = make_host("obeys")
    for name in ("a", "b", "c"):
        host.start(name)
    assert eventually(lambda: len(book.sessions) == 3)

    host.close("the trader stops", grace=2)

    assert [session.alive for session in book.sessions] == [False] * 3
    assert not host.alive


def test_an_error_of_whoever_listens_does_not_end_the_host(make_host, book, monkeypatch, caplog):
    def fail(*args: Any) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(book, "changed", fail)
    monkeypatch.setattr(book, "ended", fail)
    host = make_host("obeys")
    session = start(host)
    os.kill(session.pid, signal.SIGKILL)

    assert eventually(lambda: host.session("rsi") not in (None, session))
    assert host.alive and "could not be told" in caplog.text


# --- With the real process --------------------------------------------------------------------------------------------------

PARENT = textwrap.dedent(
    """
    import sys, time
    from mbats.live.hosting.host import Host

    class Silent:
        def begin(self, session): print(session.pid, flush=True)
        def message(self, session, message): pass
        def ended(self, session, end): print(end, flush=True)
        def changed(self, name, hosted): pass

    host = Host(Silent())
    host.start("a"); host.start("b")
    time.sleep(600)
    """
)


def test_the_strategys_processes_die_with_the_trader_that_is_killed():
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        children = [int(parent.stdout.readline()) for _ in range(2)]
        assert eventually(lambda: all(_command_line(child) for child in children))
        assert all("mbats.live.process" in _command_line(child) for child in children)

        parent.kill()

        assert eventually(lambda: not any(_command_line(child) for child in children), within=20)


def _command_line(pid: int) -> str:
    """Empty when there is no such process, or only its remains."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
