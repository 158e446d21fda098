"""A few of the thousand deaths (benchmarks/thousand_deaths.py), and that what they look for would be found."""

from __future__ import annotations

import copy
import queue
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from live.deaths.checking import Findings, check
from live.deaths.running import Remains, Result, Theatre
from live.deaths.script import make_script

RUNS, AT_A_TIME = 24, 2


def play(folder: Path, seeds: range) -> list[Result]:
    """Two at a time, each with an exchange of its own."""
    left: queue.SimpleQueue[int] = queue.SimpleQueue()
    for seed in seeds:
        left.put(seed)
    found: list[Result] = []
    errors: list[Exception] = []

    def work(theatre: Theatre) -> None:
        with theatre:
            while not left.empty() and not errors:
                try:
                    found.append(theatre.play(left.get()))
                except Exception as error:
                    errors.append(error)

    theatres = [Theatre(folder / f"exchange{number}") for number in range(AT_A_TIME)]
    threads = [threading.Thread(target=work, args=(each,)) for each in theatres]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return found


@pytest.mark.proves("R1", "R2", "R3", "R6", "R8", "R17", "R18", "R26", "R34")
def test_after_deaths_and_faults_nothing_is_doubled_orphaned_naked_or_different(tmp_path: Path) -> None:
    results = play(tmp_path, range(1, RUNS + 1))
    assert len(results) == RUNS
    assert {each.seed: each.findings.all() for each in results if each.findings.all()} == {}
    deaths, faults = Counter[str](), Counter[str]()
    for each in results:
        deaths += each.deaths
        faults += each.faults
    assert deaths["line"] + deaths["point"] >= 5, "traders died at lines of their own"
    assert sum(each.kills for each in results) >= RUNS
    assert len(faults) >= 12, faults
    assert sum(each.fills for each in results) >= 5 * RUNS


def test_one_number_is_one_script() -> None:
    assert make_script(17) == make_script(17)
    assert make_script(17) != make_script(18)


# --- What is looked for would be found ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def remains(tmp_path_factory: pytest.TempPathFactory) -> Remains:
    """A journal, an account and its log after a run that left a lot with a stop."""
    with Theatre(tmp_path_factory.mktemp("remains")) as theatre:
        for seed in range(500, 540):
            theatre.play(seed, keep=True)
            found = theatre.remains
            assert found is not None
            if any(order["type"] == "STOP_LOSS" for order in found.details["orders"]):
                return found
    raise AssertionError("no run left a trade with a stop")


def tampered(remains: Remains, change: Callable[[dict[str, Any], list[dict[str, Any]]], None]) -> Findings:
    details, log = copy.deepcopy(remains.details), copy.deepcopy(remains.log)
    change(details, log)
    return check(remains.journal, details, log, remains.released)


def fill_twice(details: dict[str, Any], log: list[dict[str, Any]]) -> None:
    names = {each["id"] for each in log if each["type"].endswith("_ORDER") and "clientExtensions" in each}
    fill = next(each for each in log if each["type"] == "ORDER_FILL" and each["orderID"] in names)
    log.append(fill | {"id": str(int(log[-1]["id"]) + 1)})


def leave_a_trade(details: dict[str, Any], log: list[dict[str, Any]]) -> None:
    details["trades"].append(details["trades"][0] | {"id": "999999", "clientExtensions": {"id": "somebody"}})


def take_a_stop(details: dict[str, Any], log: list[dict[str, Any]]) -> None:
    details["orders"] = [each for each in details["orders"] if each["type"] != "STOP_LOSS"]


def lose_a_cent(details: dict[str, Any], log: list[dict[str, Any]]) -> None:
    details["balance"] = f"{float(details['balance']) - 0.01:.4f}"


@pytest.mark.parametrize(
    ("change", "kind"),
    [(fill_twice, "duplicates"), (leave_a_trade, "orphans"), (take_a_stop, "naked"), (lose_a_cent, "differences")],
)
def test_what_is_wrong_is_found(remains: Remains, change: Callable[..., None], kind: str) -> None:
    assert check(remains.journal, remains.details, remains.log, remains.released).all() == []
    assert getattr(tampered(remains, change), kind)
