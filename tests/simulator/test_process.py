"""`mbats simulator` as a process: it starts, says what it is, keeps its token to itself, and stops when it is told to."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from simulator.running import ACCOUNT, HEADERS, TIMEOUT, TOKEN, Running, scripted_settings


def test_the_banner_says_where_it_listens_and_that_the_prices_are_not_oandas(simulator):
    assert simulator.url.startswith("http://127.0.0.1:")
    assert "ECB rates with simulated intraday" in simulator.banner
    assert "OANDA data" not in simulator.banner
    assert requests.get(f"{simulator.url}/healthz", timeout=TIMEOUT).json()["status"] == "ok"


def test_health_answers_while_decades_are_being_made(simulator):
    began, answered = time.monotonic(), []
    query = {"granularity": "D", "count": "3000", "price": "BA"}
    work = threading.Thread(
        target=lambda: answered.append(
            requests.get(f"{simulator.url}/v3/instruments/NZD_USD/candles", query, headers=HEADERS, timeout=TIMEOUT)
        )
    )
    work.start()
    waits = []
    while work.is_alive():
        sent = time.monotonic()
        requests.get(f"{simulator.url}/healthz", timeout=TIMEOUT)
        waits.append(time.monotonic() - sent)
        time.sleep(0.02)
    work.join()
    took = time.monotonic() - began

    assert len(answered[0].json()["candles"]) == 3000
    assert len(waits) > 5
    assert max(waits) < took / 2


def test_sigterm_ends_it_cleanly_and_the_token_was_never_printed(start_simulator):
    running = start_simulator()
    for headers in (HEADERS, {"Authorization": f"Bearer {TOKEN}x"}):
        requests.get(f"{running.url}/v3/accounts", headers=headers, timeout=TIMEOUT)
    requests.get(f"{running.url}/v3/instruments/%00/candles?from={TOKEN}", headers=HEADERS, timeout=TIMEOUT)

    code, output = running.stop()

    assert code == 0
    assert TOKEN not in running.banner + output
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{running.url}/healthz", timeout=TIMEOUT)


def test_the_same_seed_gives_the_same_market_in_another_process(simulator, start_simulator):
    query = {"granularity": "M1", "from": "2024-05-15T00:00:00Z", "to": "2024-05-16T00:00:00Z", "price": "BA"}
    same, other = start_simulator(), start_simulator(simulator_seed=1)

    bodies = [
        requests.get(f"{each.url}/v3/instruments/USD_JPY/candles", query, headers=HEADERS, timeout=TIMEOUT).json()
        for each in (simulator, same, other)
    ]

    assert bodies[0] == bodies[1]
    assert bodies[0] != bodies[2]


def test_without_a_token_it_does_not_start(start_simulator):
    running = start_simulator(simulator_token=None)

    assert running.process.wait(30) == 2
    assert "No secret 'simulator_token'" in running.banner
    assert "Traceback" not in running.banner


@pytest.mark.parametrize("setting", ["simulator_port", "simulator_stream_port", "simulator_admin_port"])
def test_a_taken_port_is_named(simulator, start_simulator, setting):
    port = simulator.url.rsplit(":", 1)[1]
    running = start_simulator(**{setting: port})

    assert running.process.wait(30) == 2
    assert f"cannot listen on 127.0.0.1:{port}" in running.banner
    assert f"MBATS_{setting.upper()}" in running.banner


def test_three_ports_are_printed_and_each_serves_its_own(simulator):
    assert simulator.banner.count("http://127.0.0.1:") == 3
    assert requests.get(f"{simulator.admin_url}/healthz", timeout=TIMEOUT).json()["mode"] == "realtime"
    assert simulator.account("GET", "/summary").status_code == 200
    with simulator.stream("pricing", instruments="EUR_USD") as messages:
        assert next(messages)["instrument"] == "EUR_USD"


def test_an_address_that_others_can_reach_needs_a_word(start_simulator):
    running = start_simulator(simulator_host="0.0.0.0")

    assert running.process.wait(30) == 2
    assert "--expose" in running.banner


def test_a_malformed_file_of_bars_stops_the_start(start_simulator, tmp_path):
    (tmp_path / "EUR_USD_M1.csv").write_text("time,open,high,low,close\n2024-05-16T10:00:00Z,1.1,1.0,1.1,1.1\n")
    running = start_simulator(simulator_bars=tmp_path)

    assert running.process.wait(30) == 2
    assert "EUR_USD_M1.csv cannot be served" in running.banner


def test_bars_of_the_users_own_are_served_and_named(start_simulator, tmp_path):
    (tmp_path / "EUR_USD_M1.csv").write_text("time,open,high,low,close\n2024-05-16T10:00:00Z,1.1,1.1,1.1,1.1\n")
    running = start_simulator(simulator_bars=tmp_path)

    assert "your own prices" in running.banner
    assert "ECB" not in running.banner
    candles = requests.get(f"{running.url}/v3/instruments/EUR_USD/candles?granularity=D", headers=HEADERS, timeout=TIMEOUT)
    assert [candle["time"] for candle in candles.json()["candles"]] == ["2024-05-15T21:00:00.000000000Z"]


def test_what_was_traded_is_there_after_a_stop_and_a_start(start_simulator, tmp_path):
    settings = scripted_settings(tmp_path) | {"home": tmp_path}
    running = start_simulator(**settings)
    running.price("1.08000", "1.08010")
    running.buy(100, order={"trailingStopLossOnFill": {"distance": "0.00100"}})
    running.step(60)
    before = running.account("GET", "").json(), running.admin("GET", "/log"), running.admin("GET", "/clock")["time"]
    code, output = running.stop()
    again = start_simulator(**settings)

    assert (code, output) == (0, "")
    assert (again.account("GET", "").json(), again.admin("GET", "/log"), again.admin("GET", "/clock")["time"]) == before
    assert again.price("1.09000", "1.09010") is None
    assert again.account("GET", "").json()["account"]["orders"][0]["trailingStopValue"] == "1.08900"


def test_killed_in_the_middle_of_a_step_it_comes_to_the_same_end(start_simulator, tmp_path):
    def begin(folder: Path) -> Running:
        folder.mkdir()
        settings[folder] = scripted_settings(folder) | {"home": folder, "simulator_source": "sample"}
        running = start_simulator(**settings[folder])
        running.step(60)
        bid = float(running.account("GET", "/pricing?instruments=EUR_USD").json()["prices"][0]["closeoutBid"])
        running.buy(10_000, order={"trailingStopLossOnFill": {"distance": "0.00500"}})
        for points in range(-2000, 2001, 100):
            order = {"type": "MARKET_IF_TOUCHED", "instrument": "EUR_USD", "units": "100", "price": f"{bid + points / 1e5:.5f}"}
            running.account("POST", "/orders", {"order": order | {"timeInForce": "GTC"}})
        return running

    def finish(running: Running) -> object:
        running.admin("POST", "/clock/step", {"until": "2024-06-14T10:00:00Z"})
        return running.admin("GET", "/log")

    settings: dict[Path, dict[str, object]] = {}
    whole = finish(begin(tmp_path / "whole"))
    broken = begin(tmp_path / "broken")
    for kills in range(1, 4):
        step = {"until": "2024-06-14T10:00:00Z"}
        moving = threading.Thread(
            target=lambda running, body: swallow(running.admin, "POST", "/clock/step", body), args=(broken, step)
        )
        moving.start()
        while broken.admin("GET", "/clock")["time"] < f"2024-05-{14 + 5 * kills}":
            time.sleep(0.001)
        broken.kill()
        moving.join()
        broken = start_simulator(**settings[tmp_path / "broken"])
        assert broken.admin("GET", "/clock")["time"] < "2024-06-14"

    assert finish(broken) == whole


def test_whatever_was_answered_is_there_after_a_kill_at_any_moment(start_simulator, tmp_path):
    settings = scripted_settings(tmp_path) | {"home": tmp_path, "simulator_source": "sample", "simulator_clock": "accelerated"}
    answered: dict[str, object] = {}

    def trade(running: Running) -> None:
        for number in range(10_000):
            response = swallow(running.buy, 100 if number % 2 else -100)
            if response is None:
                return
            said = response.json()
            answered.update({part["id"]: part for part in said.values() if isinstance(part, dict) and "id" in part})

    for kill in range(3):
        running = start_simulator(**settings)
        trader = threading.Thread(target=trade, args=(running,))
        trader.start()
        while len(answered) < 60 * (kill + 1):
            time.sleep(0.001)
        running.kill()
        trader.join()

    log = {
        each["id"]: each
        for each in start_simulator(**settings).account("GET", "/transactions/sinceid?id=1").json()["transactions"]
    }
    assert len(answered) >= 180
    assert answered.items() <= log.items()
    assert [int(number) for number in log] == list(range(2, 2 + len(log)))


def swallow(ask: Callable[..., Any], *asked: object) -> Any:
    """What `ask` answers; None when the process that should is gone."""
    try:
        return ask(*asked)
    except requests.RequestException:
        return None


def test_a_clock_of_another_kind_never_takes_the_exchange_back(start_simulator, tmp_path):
    settings = scripted_settings(tmp_path) | {"home": tmp_path}
    running = start_simulator(**settings)
    running.step(3600)
    running.stop()
    again = start_simulator(**settings | {"simulator_clock": "accelerated"})

    assert again.admin("GET", "/clock")["time"] > "2024-05-14T11:00:00"


def test_one_folder_is_for_one_simulator_at_a_time(start_simulator, tmp_path):
    first = start_simulator(home=tmp_path)
    second = start_simulator(home=tmp_path)

    assert second.process.wait(30) == 2
    assert "is open in another simulator" in second.banner
    assert first.account("GET", "/summary").status_code == 200


def test_a_log_of_another_program_is_left_alone(start_simulator, tmp_path):
    (tmp_path / "simulator").mkdir()
    database = sqlite3.connect(tmp_path / "simulator" / "log.sqlite")
    database.execute("CREATE TABLE mine (x)")
    database.close()
    running = start_simulator(home=tmp_path)

    assert running.process.wait(30) == 2
    assert "is a database of another program" in running.banner
    assert "MBATS_SIMULATOR_DATA" in running.banner


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"accounts": [{"id": "101-004-1435156-002"}]}, f"has the account {ACCOUNT}, which the configuration has not"),
        ({"accounts": [{"id": ACCOUNT, "currency": "JPY"}]}, f"has account {ACCOUNT} in USD, the configuration in JPY"),
        ({"bars": True}, "has orders in EUR_USD, and these prices have only USD_JPY"),
    ],
)
def test_a_log_that_does_not_fit_the_settings_is_refused_whole(start_simulator, tmp_path, change, words):
    settings = scripted_settings(tmp_path) | {"home": tmp_path}
    running = start_simulator(**settings)
    running.price("1.08000", "1.08010")
    running.buy()
    running.stop()
    config = json.loads(settings["simulator_config"].read_text())
    if "accounts" in change:
        config["users"][0]["accounts"] = change["accounts"]
        settings["simulator_config"].write_text(json.dumps(config))
    else:
        (tmp_path / "USD_JPY_D.csv").write_text("time,open,high,low,close\n2024-05-13T21:00:00Z,150,150,150,150\n")
        settings |= {"simulator_source": "files", "simulator_bars": tmp_path / "USD_JPY_D.csv"}
    refused = start_simulator(**settings)

    assert refused.process.wait(30) == 2
    assert words in refused.banner


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("simulator_source", "files", "MBATS_SIMULATOR_BARS names none"),
        ("simulator_source", "database", "mbats_postgres_reader_password"),
        ("simulator_source", "crystal ball", "MBATS_SIMULATOR_SOURCE"),
        ("simulator_clock", "backwards", "MBATS_SIMULATOR_CLOCK"),
        ("simulator_speed", "0", "MBATS_SIMULATOR_SPEED is 0"),
        ("simulator_start", "noon", "MBATS_SIMULATOR_START"),
        ("simulator_config", "/nowhere/config.yaml", "/nowhere/config.yaml"),
    ],
)
def test_a_setting_that_cannot_be_used_stops_the_start(start_simulator, setting, value, words):
    running = start_simulator(**{setting: value})

    assert running.process.wait(30) == 2
    assert words in running.banner
    assert "Traceback" not in running.banner
