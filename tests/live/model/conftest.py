"""What tests of models in live trading share: one MLflow server, with its store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from registries import Registry, running_registry

from mbats.settings import Settings, load_settings


@pytest.fixture(scope="session")
def live_registry(postgres_server: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """The server. A test that kills its `program` starts it again."""
    with running_registry(postgres_server, tmp_path_factory.mktemp("registry") / "home") as server:
        yield server


@pytest.fixture
def home(tmp_path: Path, live_registry: Registry) -> Path:
    """A state folder whose settings name that server, as every process sees them that has it as its MBATS_HOME."""
    (tmp_path / "secrets").mkdir(mode=0o700)
    live_registry.known_to(load_settings(home=tmp_path))
    return tmp_path
