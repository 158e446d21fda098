"""A served model gives the very bits of the one in the process, and another one is found out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import psutil
import pytest
from platforms import alive, eventually, family

from mbats.errors import ConfigError, PlatformError
from mbats.ml import predictor, registry, serving
from mbats.ml.check import read_check
from mbats.ml.predictor import RestModel
from mbats.settings import Settings


@pytest.fixture(scope="module")
def served(trained_model, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """The session's model behind MLflow's own scoring server; the settings that reach it."""
    import subprocess

    from free_ports import free_ports

    settings = trained_model.settings.model_copy(update={"serving_port": next(free_ports())})
    log = tmp_path_factory.mktemp("serving") / "log"
    what = serving.prepare(settings, "of_the_session@challenger")
    with log.open("wb") as file:
        server = subprocess.Popen(
            serving.command(what, "127.0.0.1", settings.serving_port),
            env=serving.environment(),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
    try:
        assert eventually(lambda: answers(settings), within=90), log.read_text()
        yield settings
    finally:
        whole = family(server.pid) if psutil.pid_exists(server.pid) else []
        for process in alive(whole):
            process.kill()
        server.wait()


def answers(settings: Settings) -> bool:
    import requests

    try:
        return requests.get(f"{settings.serving_url}/ping", timeout=2).status_code == 200
    except requests.RequestException:
        return False


@contextmanager
def endpoint(status: int, body: bytes) -> Iterator[str]:
    """Something that answers every question alike."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def path(trained_model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return registry.fetch(trained_model.settings, trained_model.trained.info, tmp_path_factory.mktemp("models"))


def test_the_endpoint_gives_the_bits_of_the_model_in_the_process(
    served: Settings, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    rows = np.random.default_rng(5).uniform(0, 100, (50, 4))
    times = np.repeat(np.array(["2022-06-01"], "datetime64[us]"), 50)
    monkeypatch.setattr(predictor, "CHUNK", 20)  # three requests, the last of them shorter

    models = registry.open_models(served, ["rest:of_the_session@challenger", "of_the_session/1"], cache=tmp_path)
    (info, rest), (same, inside) = models.models.values()

    assert info == same
    assert isinstance(rest, RestModel)
    assert rest.predict("EUR_USD", times, rows).tobytes() == inside.predict("EUR_USD", times, rows).tobytes()
    assert len(rest.predict("EUR_USD", times[:0], rows[:0])) == 0
    one_by_one = RestModel(served.serving_url, replace(info, row_by_row=True))
    assert one_by_one.predict("EUR_USD", times[:3], rows[:3]).tobytes() == inside.predict("EUR_USD", times, rows)[:3].tobytes()


def test_rows_of_other_features_are_refused_by_the_endpoint(served: Settings, path: Path):
    info = replace(registry.read_info(path), features=("rsi", "percK", "percD", "volume"))

    with pytest.raises(ConfigError, match="does not serve model of_the_session/1: it answers 400"):
        RestModel.open(served.serving_url, path, info)


def test_another_model_at_the_endpoint_is_found_out(path: Path):
    check = read_check(path)
    nearly = [*check.edges[:-1].tolist(), float(np.nextafter(check.edges[-1], 1.0))]

    with (
        endpoint(200, json.dumps({"predictions": nearly}).encode()) as url,
        pytest.raises(ConfigError, match="1 of 32 checked rows give another prediction than was recorded in training"),
    ):
        RestModel.open(url, path, registry.read_info(path))


@pytest.mark.parametrize(
    ("status", "body", "sentence"),
    [
        (500, b"it broke", "answers 500: it broke"),
        (200, b"<html>", "answers with something that is no prediction: '<html>'"),
        (200, b'{"predictions": [1.0]}', "answers 1 predictions for 32 rows"),
        (200, b'{"other": 1}', "no prediction"),
    ],
)
def test_what_is_no_prediction_is_an_error_in_words(path: Path, status: int, body: bytes, sentence: str):
    with endpoint(status, body) as url, pytest.raises(PlatformError, match=sentence):
        RestModel(url, registry.read_info(path)).predict("", np.empty(0), read_check(path).rows)


def test_an_endpoint_that_is_away_is_said_with_how_to_start_it(path: Path, free_port: int):
    with pytest.raises(PlatformError, match=r"did not answer .*`mbats serve of_the_session/1` starts it"):
        RestModel.open(f"http://127.0.0.1:{free_port}", path, registry.read_info(path))
