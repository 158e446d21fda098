"""`mbats backtest` and `mbats reproduce` with a model of the registry, as a user runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime

import numpy as np
import pytest
from live.model.registering import register, set_alias
from runs import instrument
from samples import random_bars

from mbats.database import Database
from mbats.market import Granularity, bar_starts
from mbats.ml.files import digest_of
from mbats.ml.registry import fetch
from mbats.riskdb.record import list_runs, load_run
from mbats.secmaster.bars import upsert_bars
from mbats.secmaster.symbols import upsert_instruments
from mbats.settings import Settings

FEATURES = ("rsi", "percK", "percD", "atr")
RAN = ("backtest", "rsi_stochastic", "--symbols", "EUR_USD", "--json", "--param")


def mbats(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "MBATS_HOME": str(settings.home)}
    command = [sys.executable, "-m", "mbats.cli", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)


@pytest.fixture
def platform(ml_settings: Settings, secmaster_db: Database) -> Settings:
    """A platform with the days of one pair from 2018 on."""
    times = bar_starts(Granularity.D, datetime(2018, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC))[:700]
    upsert_instruments(secmaster_db, [instrument("EUR_USD")])
    upsert_bars(secmaster_db, "EUR_USD", Granularity.D, random_bars(times), vendor="test")
    return ml_settings


def test_a_run_is_repeated_with_the_version_of_then_after_a_promotion(platform: Settings, risk_db: Database) -> None:
    name = "commands_promoted"
    for weights in ((0.0, -1.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0)):  # against the stochastic, and with it
        register(platform, name, FEATURES, weights, granularity="D")
    set_alias(platform, name, "champion", 1)

    first = mbats(platform, *RAN, f"model={name}@champion", "--param", "edge=-10")
    set_alias(platform, name, "champion", 2)
    second = mbats(platform, *RAN, f"model={name}@champion", "--param", "edge=-10")

    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    then, now = json.loads(first.stdout), json.loads(second.stdout)
    assert (then["model"], now["model"]) == (f"{name}/1", f"{name}/2")
    assert (then["in_sample"], now["in_sample"]) == (True, True)  # these were trained on 2020
    assert then["warnings"][0].startswith(
        f"In sample: {name}/1 was trained on 2020-01-01 to 2021-01-01, and this run goes from 2018"
    )
    recorded = load_run(risk_db, then["run"])
    assert recorded.fills != load_run(risk_db, now["run"]).fills
    assert len(recorded.decisions) > 5
    for decision in recorded.decisions:
        assert decision.prediction == -decision.features[1]

    again = mbats(platform, "reproduce", str(then["run"]), "--json")

    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["reproduced"] is True


def test_a_model_that_is_not_there_is_answered_in_one_sentence_and_nothing_is_recorded(
    platform: Settings, risk_db: Database
) -> None:
    register(platform, "commands_known", FEATURES, (0.0, 0.0, 0.0, 0.0))

    done = mbats(platform, *RAN, "model=commands_known@champion")

    assert done.returncode == 2
    assert "commands_known" in done.stderr
    assert "Traceback" not in done.stderr
    assert list_runs(risk_db, limit=5) == []


def test_a_model_of_other_features_is_answered_with_both_lists(platform: Settings, risk_db: Database) -> None:
    register(platform, "commands_other", ("rsi", "macd"), (0.0, 0.0))

    done = mbats(platform, *RAN, "model=commands_other/1")

    assert done.returncode == 2
    words = " ".join(done.stderr.split())
    assert "commands_other/1 was trained on the features rsi, macd; the strategy declares rsi, percK, percD, atr" in words
    assert list_runs(risk_db, limit=5) == []


def test_files_of_a_model_that_were_changed_since_the_run_are_fetched_anew(platform: Settings) -> None:
    info = register(platform, "commands_changed", FEATURES, (0.0, -1.0, 0.0, 0.0))
    ran = mbats(platform, *RAN, "model=commands_changed/1", "--param", "edge=-10")
    assert ran.returncode == 0, ran.stderr
    number = json.loads(ran.stdout)["run"]
    kept = fetch(platform, info, platform.home / "models")
    file = max((path for path in kept.rglob("*") if path.suffix == ".pkl"), key=lambda path: path.stat().st_size)
    content = np.frombuffer(file.read_bytes(), np.uint8).copy()
    content[-2] ^= 1
    file.chmod(0o600)
    file.write_bytes(content.tobytes())
    assert digest_of(kept) != info.digest

    again = mbats(platform, "reproduce", str(number), "--json")

    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["reproduced"] is True
    assert digest_of(kept) == info.digest
