"""A model behind its endpoint, `rest:NAME@ALIAS`, in live trading: the same words, and a hold while it is away."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import requests
from free_ports import free_ports
from live.model.registering import in_folder
from live.model.test_process import FEATURES, SYMBOLS, WEIGHTS, bars_of, decided, first, moments
from live.process.trader import adopt, child, past
from platforms import eventually

from mbats.live.models import Pin
from mbats.live.wire import Broken
from mbats.ml.serving import Served, command, environment


@contextmanager
def served(pin: Pin, folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    port = next(free_ports())
    with (folder / "served.log").open("wb") as log:
        argv = command(Served(pin.info.reference, pin.path), "127.0.0.1", port)
        process = subprocess.Popen(
            argv, env=environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    try:
        url = f"http://127.0.0.1:{port}"
        assert eventually(lambda: is_well(url), within=90), (folder / "served.log").read_text()
        yield url, process
    finally:
        kill(process)


def is_well(url: str) -> bool:
    try:
        return requests.get(f"{url}/ping", timeout=5).status_code == 200
    except requests.RequestException:
        return False


def kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture
def pin(tmp_path: Path) -> Pin:
    return in_folder(tmp_path, FEATURES, WEIGHTS)


def test_a_served_model_says_the_same_and_holds_while_it_is_away(tmp_path: Path, pin: Pin) -> None:
    bars = bars_of(70)
    pasts = [past(symbol, each[:60]) for symbol, each in bars.items()]
    bar = moments(bars, 60)
    with served(pin, tmp_path) as (url, server), child() as here, child() as there:
        here.start(first([pin], symbols=SYMBOLS, model="m/1"), pasts, adopt())
        rest = replace(pin, reference="rest:m/1", url=url)
        there.start(first([rest], symbols=SYMBOLS, model="rest:m/1", seconds=10.0), pasts, adopt())
        for each in bar[:5]:
            here.moment(each)
            there.moment(each)
        kill(server)
        held = there.moment(bar[5])

    wanted = [(each.symbol, each.time, each.features, each.prediction, each.model) for each in decided(here.said)]
    told = decided(there.said)
    assert len(wanted) == 10
    assert [(each.symbol, each.time, each.features, each.prediction, each.model) for each in told[:10]] == wanted
    assert [each.prediction for each in decided(held)] == [None, None] and len(held) == 2
    assert all(f"The model's endpoint {url} did not answer" in str(each.error) for each in decided(held))


def test_an_endpoint_that_serves_another_model_is_refused(tmp_path: Path, pin: Pin) -> None:
    other = in_folder(tmp_path, FEATURES, (2.0, 0.5), version=2)
    bars = {"EUR_USD": bars_of(20)["EUR_USD"]}
    with served(other, tmp_path) as (url, _), child() as process:
        rest = replace(pin, reference="rest:m/1", url=url)
        answer = process.start(first([rest], model="rest:m/1"), [past("EUR_USD", bars["EUR_USD"])], adopt())

    assert isinstance(answer, Broken)
    assert answer.message.startswith(f"The endpoint {url} does not serve model m/1: 4 of 4 checked rows give another prediction")
