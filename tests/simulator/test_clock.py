"""How time passes: five modes, jumps, restarts, steps; and that the exchange never lives through a moment twice."""

from __future__ import annotations

import asyncio
import time as machine
from datetime import datetime

import numpy as np
import pytest
import requests
from simulator.inprocess import NOW, Time, make_runtime, price
from simulator.running import ACCOUNT, Running, scripted_settings

from mbats.errors import PlatformError, UsageError
from mbats.simulator.clock import Mode, seconds
from mbats.simulator.stepping import Stepping

HOUR = np.timedelta64(3600, "s")


# --- The clock alone -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [Mode.REALTIME, Mode.SHIFT])
def test_a_real_clock_shows_this_machines_time(mode):
    time = Time()
    clock = time.clock(mode)
    time.elapsed = 12.5

    assert clock.now() == NOW + seconds(12.5)


def test_an_accelerated_clock_is_so_many_times_as_fast_from_its_start():
    time = Time()
    start = np.datetime64("2015-01-15T09:00:00", "us")
    clock = time.clock(Mode.ACCELERATED, start=start, speed=60)
    time.elapsed = 2.5

    assert clock.now() == start + seconds(150)


@pytest.mark.parametrize("mode", [Mode.STEP, Mode.ASAP])
def test_a_clock_that_stands_moves_only_when_it_is_moved(mode):
    time = Time()
    clock = time.clock(mode, start=NOW - HOUR)
    time.elapsed = 1000
    assert clock.now() == NOW - HOUR
    clock.move_to(NOW)

    assert clock.now() == NOW


def test_changing_the_mode_changes_no_time():
    time = Time()
    clock = time.clock(Mode.STEP, start=NOW - 100 * HOUR)
    shown = []
    for mode in (Mode.ACCELERATED, Mode.REALTIME, Mode.STEP, Mode.SHIFT, Mode.ASAP, Mode.ACCELERATED):
        before = clock.now()
        clock.set_mode(mode, 10)
        shown.append(clock.now() - before)
        time.elapsed += 3

    assert shown == [np.timedelta64(0, "us")] * 6
    # 10 times 3 s, then 3 s, then none, then 3 s, then none, then 10 times 3 s
    assert clock.now() == NOW - 100 * HOUR + seconds(30 + 3 + 3 + 30)


@pytest.mark.parametrize("mode", list(Mode))
def test_a_jump_goes_ahead_or_back_from_what_is_shown(mode):
    time = Time()
    clock = time.clock(mode)
    time.elapsed = 5
    before = clock.now()
    clock.jump(30)
    ahead = clock.now() - before
    clock.jump(-90)

    assert (ahead, clock.now() - before) == (seconds(30), seconds(-60))


@pytest.mark.parametrize("speed", [0, -1, 0.0001, 1e7, float("nan")])
def test_a_speed_that_cannot_be_is_refused_and_nothing_changes(speed):
    clock = Time().clock()
    with pytest.raises(ValueError, match="a speed of"):
        clock.set_mode(Mode.ACCELERATED, speed)

    assert clock.mode is Mode.REALTIME


@pytest.mark.parametrize(("mode", "expected"), [(Mode.REALTIME, 5 + 1000), (Mode.STEP, 5), (Mode.ACCELERATED, 5 + 4)])
def test_over_a_restart_a_real_clock_has_gone_on_and_another_has_stood_still(mode, expected):
    time = Time()
    clock = time.clock(mode, speed=2)
    clock.jump(5)
    time.elapsed = 2
    kept = clock.state()
    time.elapsed = 1000
    again = time.clock(Mode.REALTIME)
    again.load(kept)

    assert again.mode is mode
    assert again.now() == NOW + seconds(expected)


# --- The exchange behind it ------------------------------------------------------------------------------------------------


def test_the_exchange_waits_while_its_clock_is_behind():
    time = Time()
    runtime = make_runtime(time.clock(), time)
    time.elapsed = 10
    assert runtime.settle() == runtime.engine.now == NOW + seconds(10)

    runtime.clock.jump(-60)
    time.elapsed = 40
    assert runtime.settle() == NOW - seconds(20)
    assert runtime.engine.now == NOW + seconds(10)

    time.elapsed = 90
    assert runtime.settle() == runtime.engine.now == NOW + seconds(30)


def run_steps(*steps: float) -> tuple[str, list[str]]:
    """The same market and orders, with time moved in these steps."""

    async def run() -> tuple[str, list[str]]:
        time = Time()
        runtime = make_runtime(time.clock(Mode.STEP), time)
        stepping = Stepping(runtime)
        for second, points in ((0, 0), (600, -150), (1800, 260), (5000, -400), (9000, 600)):
            moment = str(NOW + seconds(second))
            bid, ask = f"{1.08 + points / 1e5:.5f}", f"{1.0801 + points / 1e5:.5f}"
            runtime.change_market({"change": "tick", "instrument": "EUR_USD", "time": f"{moment}Z", "bid": bid, "ask": ask})
        await stepping.move_to(NOW + seconds(1))
        order = {"type": "MARKET", "instrument": "EUR_USD", "units": "1000"}
        children = {"trailingStopLossOnFill": {"distance": "0.00200"}, "takeProfitOnFill": {"price": "1.08800"}}
        runtime.execute(lambda engine: engine.create_order(ACCOUNT, {"order": order | children}))
        stop = {"type": "STOP", "instrument": "EUR_USD", "units": "-5", "price": "1.07700", "timeInForce": "GTC"}
        runtime.execute(lambda engine: engine.create_order(ACCOUNT, {"order": stop}))
        for step in steps:
            await stepping.move_to(runtime.clock.now() + seconds(step))
        return runtime.log.digest(), [tx["type"] for tx in runtime.log.transactions()]

    return asyncio.run(run())


def test_the_size_of_the_steps_changes_nothing_that_happens():
    whole = run_steps(36_000)

    assert run_steps(*[600] * 60) == run_steps(1, 1799, 33_000, 1200) == whole
    assert whole[1].count("ORDER_FILL") == 3


def test_a_step_by_prices_ends_just_after_the_last_of_them():
    async def run() -> tuple[int, np.datetime64, int, np.datetime64]:
        time = Time()
        runtime = make_runtime(time.clock(Mode.STEP), time)
        for second, name in ((5, "EUR_USD"), (7, "USD_JPY"), (3700, "EUR_USD"), (9000, "EUR_USD")):
            at = f"{NOW + seconds(second)}Z"
            runtime.change_market({"change": "tick", "instrument": name, "time": at, "bid": "1.50000"[:5], "ask": "1.60000"[:5]})
        stepping = Stepping(runtime)
        two = await stepping.move_by_ticks(2, ("EUR_USD",))
        after = runtime.clock.now()
        more = await stepping.move_by_ticks(5, ("EUR_USD", "USD_JPY"))
        return two, after, more, runtime.clock.now()

    two, after, more, end = asyncio.run(run())
    assert (two, after) == (2, NOW + seconds(3700) + np.timedelta64(1, "us"))
    assert (more, end) == (1, after + np.timedelta64(7, "D"))


def test_a_clock_that_runs_is_not_stepped_and_none_is_stepped_back():
    async def run() -> None:
        time = Time()
        runtime = make_runtime(time.clock(), time)
        stepping = Stepping(runtime)
        with pytest.raises(UsageError, match="it runs by itself"):
            await stepping.move_to(NOW + HOUR)
        runtime.clock.set_mode(Mode.STEP)
        with pytest.raises(UsageError, match="lies before that"):
            await stepping.move_to(NOW - HOUR)

    asyncio.run(run())


def test_an_order_that_cannot_be_written_has_not_happened(tmp_path):
    time = Time()
    runtime = make_runtime(time.clock(Mode.STEP), time, folder=tmp_path)
    price(runtime, "1.08000", "1.08010")
    runtime.clock.jump(1)
    order = {"order": {"type": "MARKET", "instrument": "EUR_USD", "units": "1"}}

    def buy() -> list[str]:
        reply = runtime.execute(lambda engine: engine.create_order(ACCOUNT, order))
        return list(reply.body["relatedTransactionIDs"])

    database = runtime.log._database
    pages = database.execute("PRAGMA page_count").fetchone()[0]
    database.execute(f"PRAGMA max_page_count = {pages}")  # a disk that is full
    bought = 0
    with pytest.raises(PlatformError, match="cannot be written: database or disk is full"):
        while True:
            buy()
            bought += 1
    assert runtime.engine.accounts[ACCOUNT].last_id == 2 + 2 * bought
    database.execute("PRAGMA max_page_count = 1000000")

    assert buy() == [str(3 + 2 * bought), str(4 + 2 * bought)]
    written = [tx["id"] for tx in runtime.log.transactions()]
    assert written == [str(number) for number in range(1, 2 * bought + 5)]
    runtime.close()


# --- As a process ------------------------------------------------------------------------------------------------------------


def clock_of(running: Running) -> dict[str, str]:
    shown: dict[str, str] = running.admin("GET", "/clock")
    return shown


def moment(text: str) -> float:
    return datetime.fromisoformat(text[:26] + "+00:00").timestamp()


def test_two_runs_of_one_script_leave_the_same_log(start_simulator, tmp_path):
    def run(hours: list[float]) -> dict[str, object]:
        running = start_simulator(**scripted_settings(tmp_path) | {"simulator_source": "sample"})
        running.step(60)
        bid = float(running.account("GET", "/pricing?instruments=EUR_USD").json()["prices"][0]["closeoutBid"])
        running.buy(10_000, order={"trailingStopLossOnFill": {"distance": "0.00300"}})
        for points in (-300, -200, -100, 100, 200, 300):
            order = {"type": "MARKET_IF_TOUCHED", "instrument": "EUR_USD", "units": "100", "price": f"{bid + points / 1e5:.5f}"}
            running.account("POST", "/orders", {"order": order | {"timeInForce": "GTC"}})
        for each in hours:
            running.step(each * 3600)
        log: dict[str, object] = running.admin("GET", "/log")
        running.kill()
        return log

    whole, again, sliced = run([48]), run([48]), run([0.5, 11.5, 1, 35])

    assert whole == again == sliced
    assert int(str(whole["transactions"])) > 14


def test_the_fastest_clock_runs_to_its_end_and_stays_there(fresh):
    until = "2024-05-21T10:00:00.000000000Z"
    fresh.admin("POST", "/clock", {"mode": "asap", "until": until})
    while clock_of(fresh)["running"]:
        machine.sleep(0.01)

    clock = clock_of(fresh)
    assert (clock["time"], clock["engineTime"], clock["until"], clock["mode"]) == (until, until, until, "asap")


def test_the_fastest_clock_runs_by_itself_to_now_and_over_a_kill_to_where_it_was_going(start_simulator, tmp_path):
    settings = scripted_settings(tmp_path) | {"home": tmp_path, "simulator_source": "sample", "simulator_clock": "asap"}
    settings["simulator_start"] = "2006-05-16T10:00:00Z"  # so long ago that it is never there
    running = start_simulator(**settings)
    running.buy(100)
    first = clock_of(running)
    running.kill()
    again = start_simulator(**settings)
    second = clock_of(again)
    with pytest.raises(AssertionError, match="it runs to its end as fast as it can"):
        again.step(1)
    again.admin("POST", "/clock", {"mode": "step"})
    stopped = clock_of(again)
    again.step(1)

    assert (first["running"], second["running"], stopped["running"]) == (True, True, False)
    assert first["until"] == second["until"] <= first["wallTime"]
    assert "2006-05-16T10" < stopped["time"] < first["until"]
    assert moment(clock_of(again)["time"]) - moment(stopped["time"]) == pytest.approx(1)


def test_an_accelerated_clock_goes_faster_than_this_machines(start_simulator, tmp_path):
    running = start_simulator(**scripted_settings(tmp_path) | {"simulator_clock": "accelerated", "simulator_speed": 5000})
    first = clock_of(running)
    while moment(clock_of(running)["wallTime"]) - moment(first["wallTime"]) < 0.3:
        machine.sleep(0.05)
    last = clock_of(running)

    passed = [moment(last[name]) - moment(first[name]) for name in ("time", "wallTime")]
    assert passed[0] > 1000 * passed[1]
    assert first["time"] > "2024-05-14T10"


def test_prices_of_the_past_come_now_and_the_same_ones_after_a_restart(start_simulator, tmp_path):
    minutes = np.arange(np.datetime64("2016-03-06T22:00"), np.datetime64("2016-03-26T00:00"), np.timedelta64(10, "m"))
    rows = [f"{minute}:00Z,{1.1 + number / 1e5:.5f}," * 1 for number, minute in enumerate(minutes)]
    lines = ["time,open,high,low,close", *(row + ",".join([row.split(",")[1]] * 3) for row in rows)]
    (tmp_path / "EUR_USD_M10.csv").write_text("\n".join(lines) + "\n")
    settings = {
        "home": tmp_path,
        "simulator_bars": tmp_path / "EUR_USD_M10.csv",
        "simulator_clock": "shift",
        "simulator_start": "2016-03-14T00:00:00Z",
    }
    running = start_simulator(**settings)
    path = "/instruments/EUR_USD/candles?granularity=M10&count=5&price=B"
    candles = running.ask("GET", path).json()["candles"]
    running.kill()
    # A week later by the setting, but the log says by how much prices were moved when it began.
    again = start_simulator(**settings | {"simulator_start": "2016-03-07T00:00:00Z"})

    assert "weeks later" in running.banner
    age = machine.time() - moment(candles[-1]["time"])
    assert -1 < age < 4 * 86_400
    known = {candle["time"]: candle["bid"]["o"] for candle in candles[:-1]}
    later = {candle["time"]: candle["bid"]["o"] for candle in again.ask("GET", path.replace("=5", "=8")).json()["candles"]}
    assert known.items() <= later.items()
    assert running.banner.split(":")[3] == again.banner.split(":")[3]


def test_time_is_told_in_the_same_words_everywhere(fresh):
    fresh.step(3600)
    date = requests.get(f"{fresh.url}/healthz", timeout=30).headers["Date"]

    assert date == "Tue, 14 May 2024 11:00:00 GMT"
    assert fresh.admin("GET", "/healthz")["time"].startswith("2024-05-14T11:00:00.00000")
    assert fresh.account("GET", "/pricing?instruments=EUR_USD").json()["time"].startswith("2024-05-14T11:00:00.00000")
