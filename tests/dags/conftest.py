"""Airflow in processes of its own: it warns at import, keeps a state folder, and would look for the user's configuration."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mbats.settings import PROJECT_ROOT

DAGS = PROJECT_ROOT / "airflow" / "dags"


@dataclass(frozen=True)
class Airflow:
    """Runs the scripts beside this file with an Airflow whose every file is in `home`."""

    home: Path

    def run(self, script: str, *arguments: str, environment: Mapping[str, str] | None = None) -> Any:
        """What the script, told the folder of the DAGs, prints as JSON on its last line; and all that it prints as `log`."""
        foreign = ("AIRFLOW", "MBATS_")
        clean = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        own = {
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.home}/airflow.db",
        }
        done = subprocess.run(
            [sys.executable, str(Path(__file__).with_name(script)), str(DAGS), *arguments],
            env=clean | own | dict(environment or {}),
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=280,
        )
        assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-8000:]}"
        return json.loads(done.stdout.splitlines()[-1]) | {"log": done.stdout}


@pytest.fixture(scope="session")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Airflow:
    return Airflow(tmp_path_factory.mktemp("airflow"))


@pytest.fixture(scope="session")
def described(airflow: Airflow) -> dict[str, Any]:
    """What Airflow makes of the folder of DAGs; see describe.py."""
    found: dict[str, Any] = airflow.run("describe.py")
    return found
