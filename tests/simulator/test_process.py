"""`mbats simulator` as a process: it starts, says what it is, keeps its token to itself, and stops when it is told to."""

from __future__ import annotations

import threading
import time

import pytest
import requests

TOKEN = "a-token-that-must-stay-out-of-the-log"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
TIMEOUT = (3.05, 30)


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


def test_a_taken_port_is_named(simulator, start_simulator):
    port = simulator.url.rsplit(":", 1)[1]
    running = start_simulator(simulator_port=port)

    assert running.process.wait(30) == 2
    assert f"cannot listen on 127.0.0.1:{port}" in running.banner
    assert "MBATS_SIMULATOR_PORT" in running.banner


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

    assert "own bars" in running.banner
    assert "ECB" not in running.banner
    candles = requests.get(f"{running.url}/v3/instruments/EUR_USD/candles?granularity=D", headers=HEADERS, timeout=TIMEOUT)
    assert [candle["time"] for candle in candles.json()["candles"]] == ["2024-05-15T21:00:00.000000000Z"]
