"""A project with one model to be trained, and a securities master to put its market into."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from samples import sample_instrument
from swinging import JOB, RECIPE, STRATEGY

from mbats.database import Database
from mbats.market import Bars, Granularity
from mbats.ml.jobs import FILE, choose_jobs
from mbats.ml.training import TrainingSpec, train
from mbats.secmaster.bars import upsert_bars
from mbats.secmaster.symbols import upsert_instruments
from mbats.settings import Settings


@pytest.fixture
def project(ml_settings: Settings, tmp_path: Path) -> Callable[..., Settings]:
    """Settings of a project of this test's own, whose retrain.toml has one model, `follow`, with this rule."""

    def make(rule: str = "propose") -> Settings:
        root = tmp_path / "project"  # a process finds it by MBATS_ROOT
        for folder in ("strategies", "mlflow/recipes"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        (root / "strategies" / "follow.py").write_text(STRATEGY)
        (root / "mlflow" / "recipes" / "quick.toml").write_text(RECIPE)
        (root / FILE).write_text(JOB.replace("RULE", rule))
        return ml_settings.model_copy(update={"root": root, "strategies_dir": root / "strategies"})

    return make


@pytest.fixture
def market(secmaster_db: Database) -> Callable[[Bars], None]:
    """Stores hours of EUR_USD."""
    upsert_instruments(secmaster_db, [sample_instrument("EUR_USD")])

    def store(bars: Bars) -> None:
        upsert_bars(secmaster_db, "EUR_USD", Granularity.H1, bars, vendor="test")

    return store


@pytest.fixture
def trained() -> Callable[[Settings, str], int]:
    """Trains a version of the job `follow` under a name of the test's own; its number."""

    def make(settings: Settings, name: str) -> int:
        job = choose_jobs(settings.root)["follow"]
        spec = TrainingSpec(strategy=job.strategy, granularity=job.granularity, symbols=job.symbols, recipe=job.recipe, name=name)
        return train(settings, spec).info.version

    return make
