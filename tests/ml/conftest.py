"""One MLflow server for the tests of a session, and one model that was trained on it. Other models are a test's own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from registries import Registry, running_registry
from sampled import store_sample_bars

from mbats.database import Database, admin_connection, database_name
from mbats.logins import VISITORS, create_database
from mbats.market import Granularity
from mbats.ml.training import Trained, TrainingSpec, train
from mbats.settings import Settings, load_settings

NAME = "of_the_session"
SMALL = """
estimator = "sklearn.ensemble.RandomForestRegressor"
[label]
horizon = 6
[splits]
folds = 3
embargo = 6
[parameters]
n_estimators = 8
max_depth = 4
min_samples_leaf = 0.02
[tune]
max_depth = { low = 2, high = 5 }
"""


@dataclass(frozen=True)
class TrainedModel:
    """A platform with bars of the sample market, and the model that was trained on them: version 1 of its name, a challenger."""

    settings: Settings
    spec: TrainingSpec
    trained: Trained


@pytest.fixture(scope="session")
def registry(postgres_server: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """The server. A test that kills its `program` starts it again."""
    with running_registry(postgres_server, tmp_path_factory.mktemp("registry") / "home") as server:
        yield server


@pytest.fixture
def ml_settings(settings: Settings, registry: Registry, secmaster_db: Database, risk_db: Database) -> Settings:
    """Settings of a platform of this test's own, with empty databases, that shares the server and its store.

    `MBATS_HOME=<ml_settings.home> mbats …` in a process of its own sees the same platform.
    """
    return registry.known_to(settings)


@pytest.fixture
def stocked(ml_settings: Settings, secmaster_db: Database) -> Settings:
    """The same, with some months of hours of two pairs of the sample market in its securities master."""
    store_sample_bars(secmaster_db)
    return ml_settings


@pytest.fixture(scope="session")
def small_recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe that is fitted in a second: a forest of few trees, three folds."""
    path = tmp_path_factory.mktemp("recipes") / "small.toml"
    path.write_text(SMALL)
    return path


@pytest.fixture(scope="session")
def trained_model(
    postgres_server: Settings, registry: Registry, small_recipe: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TrainedModel]:
    """A model of the session, trained with two trials; tests only look at it, and change none of its aliases."""
    home = tmp_path_factory.mktemp("trained") / "home"
    (home / "secrets").mkdir(parents=True)
    databases = {name: f"{name}_{NAME}_{os.getpid()}" for name in ("secmaster", "risk")}
    lines = [f"MBATS_POSTGRES_{name.upper()}_DATABASE={database}\n" for name, database in databases.items()]
    (home / "platform.env").write_text("".join([*lines, f"MBATS_POSTGRES_PORT={postgres_server.postgres_port}\n"]))
    for role in ("admin", "ingest", "trading"):
        file = home / "secrets" / f"mbats_postgres_{role}_password"
        file.touch(mode=0o600)
        file.write_text(postgres_server.postgres_password(role).get_secret_value())
    settings = registry.known_to(load_settings(home=home))
    with closing(admin_connection(settings)) as admin, admin.cursor() as cursor:
        for name, database in databases.items():
            template = database_name(postgres_server, name)
            create_database(cursor, settings, database, visitors=VISITORS[name], template=template)
        with closing(Database(settings, "secmaster", "ingest")) as secmaster:
            store_sample_bars(secmaster)
        spec = TrainingSpec(
            strategy="rsi_stochastic",
            granularity=Granularity.H1,
            recipe=str(small_recipe),
            # With this edge the model lets everything pass, so that there is trading to look at.
            parameters={"edge": "-1"},
            trials=2,
            name=NAME,
        )
        yield TrainedModel(settings, spec, train(settings, spec))
        for database in databases.values():
            cursor.execute(f'DROP DATABASE "{database}" WITH (FORCE)')
