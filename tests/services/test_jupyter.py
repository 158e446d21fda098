"""JupyterLab as the platform runs it: opened by its token alone, with `mbats` and the platform at hand."""

from __future__ import annotations

import http.client
import json
import shutil
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import nbformat
import numpy as np
import pytest
from browser import CHROMIUM, Visit, chromium, pictures_folder
from platforms import alive, eventually
from programs import RunningProgram, new_platform, running, running_postgres, visible_text
from pydantic import SecretStr
from runs import instrument, run

from mbats.database import DATABASES, Database, migrate
from mbats.errors import PlatformError
from mbats.market import Bars, Granularity, bar_starts
from mbats.platform.jupyter import jupyter
from mbats.platform.ports import is_free
from mbats.riskdb.record import record_run
from mbats.secmaster.bars import upsert_bars
from mbats.secmaster.symbols import upsert_instruments
from mbats.settings import PROJECT_ROOT, Settings, load_settings
from mbats.trading.strategies import load_strategy

NOTEBOOKS = sorted((PROJECT_ROOT / "notebooks").glob("*.ipynb"))
OF_STORED_BARS = [file for file in NOTEBOOKS if file.stem == "first_look"]  # the others need MLflow: the stack's tests run them

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("platform")
    for name in ("db", "notebooks", "strategies"):  # copies, since what a person opens there is saved by itself
        shutil.copytree(PROJECT_ROOT / name, folder / "root" / name)
    return new_platform(folder / "home", root=folder / "root")


@pytest.fixture(scope="module")
def server(settings: Settings) -> Iterator[RunningProgram]:
    with running([jupyter(settings)], settings.home) as [server]:
        server.wait_until_well()
        yield server


@pytest.fixture(scope="module")
def stored(settings: Settings) -> Iterator[None]:
    """The databases of the same platform, with daily bars and a recorded run."""
    times = bar_starts(Granularity.D, np.datetime64("2018-01-01", "us").item(), np.datetime64("2021-01-01", "us").item())
    close = np.round(1.1 * np.exp(np.cumsum(np.random.default_rng(1).normal(0, 0.006, len(times)))), 5)
    bars = Bars.from_mid(times, close, close * 1.002, close * 0.998, close, np.ones(len(times)), spread=0.0002)
    with running_postgres(settings):
        for name in DATABASES:
            migrate(settings, name)
        with closing(Database(settings, "secmaster", "ingest")) as secmaster:
            upsert_instruments(secmaster, [instrument("EUR_USD"), instrument("USD_JPY")])
            upsert_bars(secmaster, "EUR_USD", Granularity.D, bars, vendor="test")
        with closing(Database(settings, "risk", "trading")) as risk:
            record_run(risk, run(load_strategy("sma_cross", settings.strategies_dir), {"EUR_USD": bars}))
        yield


def token(settings: Settings) -> str:
    return settings.required_secret("jupyter_token").get_secret_value()


def status(settings: Settings, path: str, token: str | None = None, **headers: str) -> int:
    if token is not None:
        headers["Authorization"] = f"token {token}"
    with closing(http.client.HTTPConnection(settings.jupyter_host, settings.jupyter_port, timeout=30)) as connection:
        connection.request("GET", path, headers=headers)
        return connection.getresponse().status


def test_it_says_its_version(server: RunningProgram) -> None:
    assert server.service.check().startswith("4.")


def test_only_the_token_opens_it(settings: Settings, server: RunningProgram) -> None:
    for path in ("/api/contents", "/api/kernels", "/api/terminals", "/api/status"):
        assert status(settings, path) == 403
        assert status(settings, path, "not the token") == 403
        assert status(settings, path, token(settings)) == 200
    assert status(settings, "/lab") == 302  # to the login
    mistaken = jupyter(settings.model_copy(update={"jupyter_token": SecretStr("not the token")}))
    with pytest.raises(PlatformError, match=r"302|403"):
        mistaken.check()


def test_a_name_of_a_stranger_does_not_lead_to_it(settings: Settings, server: RunningProgram) -> None:
    assert status(settings, "/api/status", token(settings), Host="evil.example.com") == 403
    assert status(settings, "/api/status", token(settings), Host="localhost") == 200


def test_notebooks_and_strategies_are_shown_and_the_state_folder_is_not(settings: Settings, server: RunningProgram) -> None:
    request = urllib.request.Request(f"{settings.jupyter_url}/api/contents/")
    request.add_header("Authorization", f"token {token(settings)}")
    with urllib.request.urlopen(request, timeout=30) as answer:
        shown = {item["name"] for item in json.loads(answer.read())["content"]}

    assert {"notebooks", "strategies"} <= shown
    assert not any(name.startswith(".") for name in shown)


@pytest.mark.parametrize("file", NOTEBOOKS, ids=[file.stem for file in NOTEBOOKS])
def test_a_notebook_is_kept_without_what_a_run_of_it_printed(file: Path) -> None:
    notebook = nbformat.read(file, as_version=4)

    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None


@pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no {CHROMIUM}")
@pytest.mark.parametrize("file", OF_STORED_BARS, ids=[file.stem for file in OF_STORED_BARS])
def test_a_person_opens_a_notebook_runs_it_and_nothing_leaves_the_machine(
    settings: Settings, server: RunningProgram, stored: None, file: Path, tmp_path: Path
) -> None:
    cells = sum(cell.cell_type == "code" for cell in nbformat.read(file, as_version=4).cells)
    with chromium() as browser:
        visit = Visit(browser, pictures_folder(tmp_path))
        page = visit.page
        page.set_viewport_size({"width": 1400, "height": 4000})  # cells out of sight are not drawn
        page.goto(f"{settings.jupyter_url}/lab/tree/notebooks/{file.name}")
        page.fill("#password_input", token(settings))
        page.click("#login_submit")
        page.locator(".jp-Notebook .jp-CodeCell").first.wait_for()
        page.get_by_text("(ipykernel) | Idle").wait_for()
        page.locator("li.lm-MenuBar-item", has_text="Run").first.click()
        page.locator(".lm-Menu-item[data-command='runmenu:run-all']").click()

        done = "[...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].filter(cell => /\\d/.test(cell.innerText)).length"
        visit.wait_until(f"() => {done} === {cells}")
        page.locator(".js-plotly-plot").first.wait_for()
        visit.look(f"jupyter-{file.stem}")

        assert page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']").all_inner_texts() == []
        assert page.locator("text=sma_cross on EUR_USD").count() >= 1
        assert visit.left_for == []
        assert visit.complaints == []
        visit.end()


def test_no_secret_can_be_read_from_its_processes_or_log(settings: Settings, server: RunningProgram) -> None:
    seen = visible_text(server.family()) + server.log

    assert "?token=..." in server.log
    assert token(settings) not in seen
    assert str(settings.home) in seen
    assert [path for path in (settings.home / "jupyter").rglob("*.json") if path.stat().st_mode & 0o077] == []


def test_a_kill_leaves_neither_a_port_nor_a_kernel(settings: Settings, server: RunningProgram) -> None:
    request = urllib.request.Request(f"{settings.jupyter_url}/api/kernels", method="POST", data=b"{}")
    request.add_header("Authorization", f"token {token(settings)}")
    urllib.request.urlopen(request, timeout=30).close()
    assert eventually(lambda: len(server.family()) >= 2)
    kernels = server.family()[1:]

    server.kill()

    assert eventually(lambda: is_free(settings.jupyter_port), within=10)
    assert eventually(lambda: not alive(kernels), within=30)
    server.start()
    server.wait_until_well()


def test_a_changed_token_is_the_only_one_from_the_next_start_on(settings: Settings, server: RunningProgram) -> None:
    old, before = token(settings), server.program.environment["MBATS_CONFIG_FILES"]
    (settings.secrets_dir / "mbats_jupyter_token").write_text("a-new-one")
    changed = load_settings(home=settings.home)
    server.stop()
    server.service = jupyter(changed)

    server.start()
    server.wait_until_well()

    assert server.program.environment["MBATS_CONFIG_FILES"] != before  # so the supervisor starts it anew
    assert status(changed, "/api/status", old) == 403
    assert status(changed, "/api/status", "a-new-one") == 200
