"""A model behind its REST endpoint: the same bits, without a password, and while MLflow is away."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import requests
from platforms import alive, eventually, family
from programs import visible_text
from swinging import BARS, swinging

from mbats.errors import UsageError
from mbats.ml.check import read_check
from mbats.ml.serving import prepare


def is_up(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/ping", timeout=5).status_code == 200
    except requests.RequestException:
        return False


@pytest.fixture
def served(project, market, trained, free_port):
    """`mbats serve` of a model that was just trained; the settings, the port and the process."""
    settings = project().model_copy(update={"serving_port": free_port})
    market(swinging(BARS, seed=1, pull=0.2))
    trained(settings, "served")
    environment = {"PATH": os.defpath, "MBATS_HOME": str(settings.home), "MBATS_ROOT": str(settings.root)}
    command = [sys.executable, "-m", "mbats.cli", "serve", "served@challenger", "--port", str(free_port)]
    log = settings.home / "serve.log"
    with log.open("wb") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=file, start_new_session=True)
        try:
            assert eventually(lambda: is_up(free_port), within=90), log.read_text()
            yield settings, free_port, process
        finally:
            left = family(process.pid) if process.poll() is None else []
            process.terminate()
            process.wait(30)
            assert eventually(lambda: not alive(left), within=15), "the server outlived its parent"


def test_it_gives_the_bits_of_the_training_and_a_strategy_can_use_it(served, registry):
    settings, port, process = served
    from mbats.ml.registry import open_models

    assert f"Serving served/1 at http://127.0.0.1:{port}/invocations" in (settings.home / "serve.log").read_text()
    assert settings.required_secret("mlflow_password").get_secret_value() not in visible_text(family(process.pid))

    check = read_check(settings.home / "models" / "served" / "1")
    models = open_models(settings, ["rest:served@challenger"])
    info, model = models.models["rest:served@challenger"]
    assert info is not None and info.reference == "served/1"
    edges = model.predict("EUR_USD", np.repeat(np.datetime64("2024-01-01", "us"), len(check.rows)), check.rows)
    assert check.different(edges) == 0

    registry.program.kill()
    try:
        again = model.predict("EUR_USD", np.repeat(np.datetime64("2024-01-01", "us"), len(check.rows)), check.rows)
        assert check.different(again) == 0
    finally:
        registry.program.start()
        registry.program.wait_until_well()
    taken = subprocess.run(
        [sys.executable, "-m", "mbats.cli", "serve", "served@challenger", "--port", str(port)],
        env={"PATH": os.defpath, "MBATS_HOME": str(settings.home)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (taken.returncode, taken.stdout) == (2, "")
    assert f"Port {port} is taken, so nothing is served" in taken.stderr


def test_without_a_model_nothing_is_served(ml_settings):
    with pytest.raises(UsageError, match="No model to serve was named"):
        prepare(ml_settings, "")
    with pytest.raises(UsageError, match="No model 'nobody'"):
        prepare(ml_settings, "nobody@champion")
