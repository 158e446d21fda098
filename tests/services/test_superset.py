"""Superset as the platform runs it: behind its login, with its dashboards from text, on the views that were made for it."""

from __future__ import annotations

import http.client
import json
import os
import re
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import psycopg2
import pytest
import yaml
from browser import CHROMIUM, Visit, chromium, pictures_folder
from platforms import eventually
from programs import RunningProgram, new_platform, running, running_postgres, visible_text
from psycopg2 import sql
from runs import run

from mbats.database import DATABASES, Database, admin_connection, login, migrate
from mbats.errors import PlatformError
from mbats.logins import bootstrap_databases
from mbats.market import Bars, Granularity, bar_starts
from mbats.platform.ports import is_free
from mbats.platform.superset import SECRETS, superset
from mbats.riskdb.record import record_run
from mbats.settings import PROJECT_ROOT, Settings, load_settings
from mbats.trading.strategies import load_strategy

VENV = Path(f"{sys.prefix}-superset")
ASSETS = PROJECT_ROOT / "superset" / "assets"
RUNS = 3

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(not VENV.is_dir() and not os.environ.get("CI"), reason=f"Superset is not installed at {VENV}"),
]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return new_platform(tmp_path_factory.mktemp("platform") / "home")


@pytest.fixture(scope="module")
def postgres(settings: Settings) -> Iterator[RunningProgram]:
    with running_postgres(settings) as server:
        for name in DATABASES:
            migrate(settings, name)
        record_some_runs(settings)
        yield server


@pytest.fixture(scope="module")
def prepared(settings: Settings, postgres: RunningProgram) -> list[str]:
    """What the first preparation said."""
    return prepare(settings)


@pytest.fixture(scope="module")
def server(settings: Settings, prepared: list[str]) -> Iterator[RunningProgram]:
    with running([superset(settings)], settings.home) as [server]:
        server.wait_until_well()
        yield server


def record_some_runs(settings: Settings) -> None:
    """Runs of an example strategy on bars made up from a seed."""
    times = bar_starts(Granularity.D, np.datetime64("2018-01-01", "us").item(), np.datetime64("2021-01-01", "us").item())
    strategy = load_strategy("sma_cross", settings.strategies_dir)
    with closing(Database(settings, "risk", "trading")) as risk:
        for seed in range(RUNS):
            close = np.round(1.1 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0, 0.006, len(times)))), 5)
            bars = Bars.from_mid(times, close, close * 1.002, close * 0.998, close, np.ones(len(times)), spread=0.0002)
            record_run(risk, run(strategy, {"EUR_USD": bars}))


def prepare(settings: Settings) -> list[str]:
    said: list[str] = []
    service = superset(settings)
    assert service.prepare is not None
    service.prepare(said.append)
    return said


class Client:
    """Somebody who speaks to Superset's API; with a password, somebody who is let in. `source` is the address he comes from."""

    def __init__(self, settings: Settings, password: str | None = None, source: str = "127.0.0.1") -> None:
        self.place = (settings.superset_host, settings.superset_port)
        self.source = source
        self.headers: dict[str, str] = {}
        if password is not None:
            body = {"username": settings.admin_user, "password": password, "provider": "db"}
            self.login_status, answer = self.ask("/api/v1/security/login", body)
            if self.login_status == 200:
                self.headers["Authorization"] = f"Bearer {answer['access_token']}"

    def ask(self, path: str, body: object = None) -> tuple[int, Any]:
        """The status of a GET or, with a body, a POST, and what it answers."""
        headers = self.headers | ({} if body is None else {"Content-Type": "application/json"})
        with closing(http.client.HTTPConnection(*self.place, timeout=60, source_address=(self.source, 0))) as connection:
            connection.request("GET" if body is None else "POST", path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read().decode()
            if (cookie := answer.headers.get("Set-Cookie")) is not None:
                self.headers["Cookie"] = cookie.partition(";")[0]
            return answer.status, json.loads(text) if "json" in answer.headers.get("Content-Type", "") else text


def password(settings: Settings) -> str:
    return settings.required_secret("superset_password").get_secret_value()


@pytest.fixture
def client(settings: Settings, server: RunningProgram) -> Client:
    return Client(settings, password(settings))


def charts(client: Client) -> dict[str, int]:
    """The charts of the dashboard by name, each with its number."""
    status, answer = client.ask("/api/v1/dashboard/backtests/charts")
    assert status == 200, answer
    return {chart["slice_name"]: chart["id"] for chart in answer["result"]}


# --- Preparing ---------------------------------------------------------------------------------------------------------


def test_the_first_preparation_makes_all_and_the_second_finds_it_there(settings: Settings, prepared: list[str]) -> None:
    assert prepared == [
        "Superset 6.1.0: tables and roles made or brought up to date.",
        "Superset: user mbats made.",
        "Superset: dashboards imported: Backtests.",
    ]
    assert prepare(settings) == ["Superset 6.1.0: tables, user and dashboards are up to date, skipped."]


def test_a_preparation_that_cannot_reach_the_database_says_so(settings: Settings, prepared: list[str], free_port: int) -> None:
    with pytest.raises(PlatformError, match=r"Superset could not be prepared(.|\n)*no connection to its database"):
        prepare(settings.model_copy(update={"postgres_port": free_port}))


def test_an_environment_that_is_not_installed_is_named_with_what_to_run(settings: Settings, monkeypatch: Any) -> None:
    monkeypatch.setattr(sys, "prefix", str(settings.home / "venv"))

    with pytest.raises(PlatformError, match=r"venv-superset.*starter_script\.sh.*uv sync --frozen --project .*superset"):
        superset(settings).program()


# --- Who gets in -------------------------------------------------------------------------------------------------------


def test_it_says_its_version(server: RunningProgram) -> None:
    assert server.service.check() == "6.1.0"


@pytest.mark.parametrize("path", ["/api/v1/dashboard/", "/api/v1/chart/", "/api/v1/database/", "/api/v1/dashboard/backtests"])
def test_a_stranger_gets_nothing_from_the_api(settings: Settings, server: RunningProgram, path: str) -> None:
    status, answer = Client(settings).ask(path)

    assert status in (401, 404)
    assert "result" not in answer


def test_a_stranger_who_opens_a_dashboard_sees_the_login(settings: Settings, server: RunningProgram) -> None:
    with urllib.request.urlopen(f"{settings.superset_url}/superset/dashboard/backtests/", timeout=60) as page:
        assert urllib.parse.urlsplit(page.url).path == "/login/"


def test_a_wrong_password_is_refused(settings: Settings, server: RunningProgram) -> None:
    wrong = Client(settings, "not the password")

    assert wrong.login_status == 401
    assert wrong.ask("/api/v1/dashboard/")[0] == 401


def test_what_the_page_of_the_login_notes_cannot_end_a_login(settings: Settings, server: RunningProgram) -> None:
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    browser.open(f"{settings.superset_url}/login/", timeout=30).close()

    with browser.open(f"{settings.superset_url}/superset/log/?explode=events", data=b"events=[]", timeout=30) as answer:
        assert (answer.status, answer.headers.get("Set-Cookie")) == (204, None)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a second address of the loopback interface")
def test_who_guesses_too_often_is_not_heard_and_others_are(settings: Settings, server: RunningProgram) -> None:
    tried = [Client(settings, f"guess {number}", source="127.0.0.2").login_status for number in range(25)]

    assert set(tried) == {401, 429}
    assert Client(settings, password(settings), source="127.0.0.2").login_status == 429
    assert Client(settings, password(settings)).login_status == 200


def test_pages_may_fetch_nothing_from_anywhere_else(settings: Settings, server: RunningProgram) -> None:
    with urllib.request.urlopen(f"{settings.superset_url}/login/", timeout=60) as page:
        policy = page.headers["Content-Security-Policy"]
        cookie = page.headers["Set-Cookie"]
        others = page.headers["Access-Control-Allow-Origin"]

    assert "default-src 'self'" in policy
    assert not re.search(r"https?:|\*", policy)
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert cookie.startswith(f"mbats_superset_{settings.superset_port}=")  # 127.0.0.1 is one site to a browser, whatever the port
    assert others is None


# --- What it shows -----------------------------------------------------------------------------------------------------


def test_every_chart_answers_with_the_recorded_runs(client: Client) -> None:
    found = charts(client)
    assert sorted(found) == sorted(yaml.safe_load(file.read_text())["slice_name"] for file in (ASSETS / "charts").glob("*.yaml"))

    answers = {name: client.ask(f"/api/v1/chart/{number}/data/") for name, number in found.items()}

    assert {name: status for name, (status, _) in answers.items()} == dict.fromkeys(found, 200)
    rows = {name: answer["result"][0]["data"] for name, (_, answer) in answers.items()}
    assert rows["Runs"] == [{"runs": RUNS}]
    assert [row["run_id"] for row in rows["All runs"]] == list(range(RUNS, 0, -1))
    assert {name for row in rows["Equity"] for name in row} == {"time", *(f"#{n} sma_cross D" for n in range(1, RUNS + 1))}
    assert all(row[name] <= 0 for row in rows["Drawdown"] for name in row if name != "time" and row[name] is not None)


def test_the_database_is_entered_as_the_login_that_sees_the_views_alone(client: Client) -> None:
    [database] = client.ask("/api/v1/database/")[1]["result"]
    shown = client.ask(f"/api/v1/database/{database['id']}/connection")[1]["result"]
    query = {"database_id": database["id"], "schema": "public", "runAsync": False, "tab": "", "client_id": "0123456789a"}

    assert "//mbats_dashboard@" in shown["sqlalchemy_uri"]
    for statement in ("SELECT * FROM run", "SELECT pg_read_file('/etc/passwd')"):
        status, answer = client.ask("/api/v1/sqllab/execute/", {**query, "sql": statement})
        assert status >= 400
        assert "run_id" not in json.dumps(answer)


# --- What happens to it ------------------------------------------------------------------------------------------------


def test_no_secret_can_be_read_from_its_processes_or_log(settings: Settings, server: RunningProgram) -> None:
    processes = server.family()
    seen = visible_text(processes) + server.log

    assert len(processes) == 2
    for name in (*SECRETS, "superset_password"):
        assert settings.required_secret(name).get_secret_value() not in seen, name
    assert str(settings.home) in seen
    folder = settings.home / "superset"
    assert [path for path in (folder, folder / "pgpass") if path.stat().st_mode & 0o077] == []


def test_a_kill_leaves_nothing_on_its_port_and_the_next_start_finds_everything_and_the_new_passwords(
    settings: Settings, server: RunningProgram
) -> None:
    before = charts(Client(settings, password(settings)))
    configuration = server.program.environment["MBATS_CONFIG_FILES"]
    (settings.secrets_dir / "mbats_postgres_dashboard_password").write_text(r"odd: \ and 'quoted'")
    changed = load_settings(home=settings.home)
    bootstrap_databases(changed)
    assert superset(changed).program().environment["MBATS_CONFIG_FILES"] != configuration  # so the supervisor starts it anew

    server.kill()

    assert eventually(lambda: is_free(settings.superset_port), within=5)
    server.start()
    server.wait_until_well()
    client = Client(settings, password(settings))
    assert charts(client) == before
    assert client.ask(f"/api/v1/chart/{before['Runs']}/data/?force=true")[0] == 200


def test_it_is_unwell_while_its_database_is_away_and_well_again_by_itself(
    settings: Settings, server: RunningProgram, postgres: RunningProgram
) -> None:
    postgres.stop()

    with pytest.raises(PlatformError, match="503"):
        server.service.check()
    postgres.start()
    server.wait_until_well()
    assert server.process.poll() is None
    assert charts(Client(settings, password(settings)))


def test_a_changed_password_is_the_only_one_after_the_next_preparation(settings: Settings, server: RunningProgram) -> None:
    old = password(settings)
    try:
        (settings.secrets_dir / "mbats_superset_password").write_text("a new one, 100% better: yes")

        assert prepare(settings) == ["Superset: password of mbats changed."]
        assert Client(settings, old).login_status == 401
        assert Client(settings, "a new one, 100% better: yes").login_status == 200
    finally:
        (settings.secrets_dir / "mbats_superset_password").write_text(old)
        prepare(settings)


def test_what_was_deleted_comes_back_and_what_a_user_made_stays(settings: Settings, server: RunningProgram) -> None:
    client = Client(settings, password(settings))
    token = client.ask("/api/v1/security/csrf_token/")[1]["result"]
    client.headers |= {"X-CSRFToken": token, "Referer": settings.superset_url}
    assert client.ask("/api/v1/dashboard/", {"dashboard_title": "My own"})[0] == 201
    before = charts(client)
    with closing(login(settings, "superset", "superset")) as connection, connection.cursor() as cursor:
        cursor.execute("DELETE FROM dashboard_slices WHERE slice_id = %s", (before["Costs"],))
        cursor.execute("DELETE FROM slices WHERE id = %s RETURNING uuid", (before["Costs"],))
        [removed] = cursor.fetchone()

        assert prepare(settings) == ["Superset: dashboards imported: Backtests."]

        cursor.execute("SELECT id FROM slices WHERE uuid = %s", (removed,))
        [again] = cursor.fetchone()
    assert charts(client) == before | {"Costs": again}
    assert {found["dashboard_title"] for found in client.ask("/api/v1/dashboard/")[1]["result"]} == {"Backtests", "My own"}


@pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no {CHROMIUM}")
def test_a_person_sees_the_dashboard_and_nothing_leaves_the_machine(
    settings: Settings, server: RunningProgram, tmp_path: Path
) -> None:
    with chromium() as browser:
        visit = Visit(browser, pictures_folder(tmp_path))
        page = visit.page
        page.goto(f"{settings.superset_url}/superset/dashboard/backtests/")
        page.fill("#username", settings.admin_user)
        page.fill("#password", password(settings))
        page.click("button[type=submit]")
        page.wait_for_selector("text=All runs")

        visit.wait_until("() => document.querySelectorAll('canvas').length >= 3")
        visit.wait_until("() => [...document.querySelectorAll('table tbody tr')].length >= 3")
        page.wait_for_timeout(1000)  # charts move into place
        picture = visit.look("superset-backtests")

        text = page.inner_text("body")
        assert re.search(rf"Runs\s+{RUNS}\s+recorded", text), text
        assert "sma_cross" in text
        assert "error" not in text.lower()
        assert visit.left_for == []
        assert visit.complaints == []
        assert picture.stat().st_size > 20_000
        visit.end()


def test_a_database_that_was_dropped_is_made_again_with_its_dashboards(settings: Settings, server: RunningProgram) -> None:
    before = {yaml.safe_load(file.read_text())["uuid"] for file in (ASSETS / "charts").glob("*.yaml")}
    server.stop()
    with closing(admin_connection(settings)) as connection, connection.cursor() as cursor:
        cursor.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier("superset")))
    with pytest.raises(PlatformError, match='database "superset" does not exist'):
        prepare(settings)

    bootstrap_databases(load_settings(home=settings.home))
    said = prepare(settings)

    assert said[-1] == "Superset: dashboards imported: Backtests."
    with closing(login(settings, "superset", "superset")) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT uuid::text FROM slices")
        assert {row[0] for row in cursor.fetchall()} == before


def test_a_stranger_cannot_enter_its_database(settings: Settings, postgres: RunningProgram) -> None:
    for name in ("dashboard", "reader"):
        with pytest.raises(PlatformError, match="permission denied for database"):
            login(load_settings(home=settings.home), name, "superset")
    with pytest.raises(psycopg2.OperationalError, match=r"no password supplied|password authentication failed"):
        psycopg2.connect(host=settings.postgres_host, port=settings.postgres_port, user="mbats_superset", dbname="superset")
