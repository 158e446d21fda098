"""pgAdmin as the platform runs it: behind its login, with both databases in its tree, which open without another question."""

from __future__ import annotations

import http.cookiejar
import os
import re
import sqlite3
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from browser import CHROMIUM, Visit, chromium, pictures_folder
from platforms import eventually
from programs import RunningProgram, new_platform, running, running_postgres, visible_text

from mbats.database import DATABASES, migrate
from mbats.errors import PlatformError
from mbats.logins import bootstrap_databases
from mbats.platform.pgadmin import SECRETS, pgadmin
from mbats.platform.ports import is_free
from mbats.settings import Settings, load_settings

VENV = Path(f"{sys.prefix}-pgadmin")
DONE = "pgAdmin 9.18: user mbats@example.com and server MBATS made or changed."
SKIPPED = "pgAdmin 9.18: user and server are up to date, skipped."

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(not VENV.is_dir() and not os.environ.get("CI"), reason=f"pgAdmin is not installed at {VENV}"),
]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return new_platform(tmp_path_factory.mktemp("platform") / "home")


@pytest.fixture(scope="module")
def postgres(settings: Settings) -> Iterator[RunningProgram]:
    with running_postgres(settings) as server:
        for name in DATABASES:
            migrate(settings, name)
        yield server


@pytest.fixture(scope="module")
def prepared(settings: Settings) -> list[str]:
    """What the first preparation said."""
    return prepare(settings)


@pytest.fixture(scope="module")
def server(settings: Settings, postgres: RunningProgram, prepared: list[str]) -> Iterator[RunningProgram]:
    with running([pgadmin(settings)], settings.home) as [server]:
        server.wait_until_well()
        yield server


def prepare(settings: Settings) -> list[str]:
    said: list[str] = []
    service = pgadmin(settings)
    assert service.prepare is not None
    service.prepare(said.append)
    return said


def password(settings: Settings) -> str:
    return settings.required_secret("pgadmin_password").get_secret_value()


def enters(settings: Settings, password: str) -> bool:
    """Whether its login lets somebody in with this password."""
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))
    with opener.open(f"{settings.pgadmin_url}/login", timeout=60) as page:
        token = re.search(r'csrfToken&#34;:\s*&#34;(.+?)&#34;|"csrfToken":\s*"(.+?)"', page.read().decode())
    assert token is not None
    form = {"email": settings.pgadmin_user, "password": password, "csrf_token": token.group(1) or token.group(2)}
    request = urllib.request.Request(f"{settings.pgadmin_url}/authenticate/login", urllib.parse.urlencode(form).encode())
    with opener.open(request, timeout=60) as page:
        return urllib.parse.urlsplit(page.url).path.startswith("/browser")


# --- Preparing ---------------------------------------------------------------------------------------------------------


def test_the_first_preparation_makes_all_and_the_second_finds_it_there(settings: Settings, prepared: list[str]) -> None:
    assert prepared == [DONE]
    assert prepare(settings) == [SKIPPED]


def test_its_folder_is_closed_to_others(settings: Settings, prepared: list[str]) -> None:
    folder = settings.home / "pgadmin"

    assert [path for path in (folder, *folder.rglob("*")) if path.stat().st_mode & 0o077] == []


def test_an_environment_that_is_not_installed_is_named_with_what_to_run(settings: Settings, monkeypatch) -> None:
    monkeypatch.setattr(sys, "prefix", str(settings.home / "venv"))

    with pytest.raises(PlatformError, match=r"venv-pgadmin.*starter_script\.sh.*uv sync --frozen --project .*db/pgadmin"):
        pgadmin(settings).program()


# --- Who gets in -------------------------------------------------------------------------------------------------------


def test_it_says_its_version(server: RunningProgram) -> None:
    assert server.service.check() == "9.18"


def test_only_the_password_opens_it(settings: Settings, server: RunningProgram) -> None:
    assert not enters(settings, "not the password")
    assert enters(settings, password(settings))


@pytest.mark.parametrize("path", ["/browser/", "/browser/server_group/nodes/", "/sqleditor/", "/settings/", "/file_manager/"])
def test_a_stranger_gets_nothing_but_the_login(settings: Settings, server: RunningProgram, path: str) -> None:
    try:
        with urllib.request.urlopen(f"{settings.pgadmin_url}{path}", timeout=60) as page:
            assert urllib.parse.urlsplit(page.url).path == "/login"
    except urllib.error.HTTPError as refusal:
        refusal.close()
        assert refusal.code in (401, 403, 404, 405)


def test_pages_may_fetch_nothing_from_anywhere_else(settings: Settings, server: RunningProgram) -> None:
    with urllib.request.urlopen(f"{settings.pgadmin_url}/login", timeout=60) as page:
        policy = page.headers["Content-Security-Policy"]
        cookie = page.headers["Set-Cookie"]

    assert "default-src 'self'" in policy
    assert not re.search(r"https?:|ws:|\*", policy)
    assert cookie.startswith(f"mbats_pgadmin_{settings.pgadmin_port}=")  # 127.0.0.1 is one site to a browser, whatever the port
    assert "HttpOnly" in cookie


# --- What it shows -----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no {CHROMIUM}")
def test_a_person_finds_both_databases_in_the_tree_and_asks_one_of_them_something(
    settings: Settings, server: RunningProgram, tmp_path: Path
) -> None:
    with chromium() as browser:
        visit = Visit(browser, pictures_folder(tmp_path))
        page = visit.page
        page.goto(f"{settings.pgadmin_url}/login")
        page.fill("input[name=email]", settings.pgadmin_user)
        page.fill("input[name=password]", password(settings))
        page.click("button[type=submit]")

        page.locator(".file-entry .directory-toggle").first.click()  # opens the group, and the server in it
        page.locator(".file-entry", has_text="Databases").locator(".directory-toggle").click()
        page.locator(".file-entry", has_text=settings.postgres_secmaster_database).locator(".directory-toggle").click()
        tree = page.locator(".file-entry").all_inner_texts()
        visit.look("pgadmin-tree")
        assert {settings.postgres_risk_database, settings.postgres_secmaster_database} <= set(tree)
        assert "Databases\n(2)" in tree

        page.locator(".file-entry", has_text="Schemas").first.wait_for()  # the database is open
        page.locator(".file-entry", has_text=settings.postgres_secmaster_database).click()
        page.locator("button[data-label='Query Tool']:not([disabled])").click()
        while not (tools := [frame for frame in page.frames if "/sqleditor/" in frame.url]):
            page.wait_for_timeout(100)
        [tool] = tools
        tool.locator("button[data-label='Execute script']:not([disabled])").wait_for()
        tool.locator(".cm-content").first.click()
        page.keyboard.type("SELECT abbrev, name FROM exchange")
        tool.locator("button[data-label='Execute script']").click()
        tool.get_by_text("Foreign exchange, over the counter").wait_for()
        visit.look("pgadmin-query")

        assert visit.left_for == []
        assert visit.complaints == []
        visit.end()


# --- What happens to it ------------------------------------------------------------------------------------------------


def test_no_secret_can_be_read_from_its_processes_or_logs(settings: Settings, server: RunningProgram) -> None:
    processes = server.family()
    seen = visible_text(processes) + server.log + (settings.home / "pgadmin" / "pgadmin4.log").read_text()

    assert len(processes) == 2
    for name in (*SECRETS, "pgadmin_password"):
        assert settings.required_secret(name).get_secret_value() not in seen, name
    assert str(settings.home) in seen


def test_a_kill_leaves_nothing_on_its_port_and_the_next_start_lets_the_same_user_in(
    settings: Settings, server: RunningProgram
) -> None:
    server.kill()

    assert eventually(lambda: is_free(settings.pgadmin_port), within=5)
    server.start()
    server.wait_until_well()
    assert enters(settings, password(settings))


def test_a_changed_password_is_the_only_one_after_the_next_preparation(settings: Settings, server: RunningProgram) -> None:
    old = password(settings)
    (settings.secrets_dir / "mbats_pgadmin_password").write_text("a new one, 100% better: yes")

    assert prepare(settings) == [DONE]

    assert not enters(settings, old)
    assert enters(settings, "a new one, 100% better: yes")
    assert prepare(settings) == [SKIPPED]


def test_a_user_who_was_locked_out_and_a_server_that_was_changed_are_put_right_and_other_servers_are_left(
    settings: Settings, server: RunningProgram
) -> None:
    file = settings.home / "pgadmin" / "pgadmin4.db"
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE user SET locked = 1")
        connection.execute("UPDATE server SET name = 'my own', host = 'elsewhere.example.com'")

    assert prepare(settings) == [DONE]

    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT locked FROM user").fetchall() == [(0,)]
        servers = set(connection.execute("SELECT name, host FROM server").fetchall())
    assert servers == {("my own", "elsewhere.example.com"), ("MBATS", settings.postgres_host)}


def test_a_new_password_of_the_reader_is_used_from_the_next_start_on(settings: Settings, server: RunningProgram) -> None:
    before = pgadmin(settings).program().environment["MBATS_CONFIG_FILES"]
    (settings.secrets_dir / "mbats_postgres_reader_password").write_text(r"odd: \ and 'quoted'")
    changed = load_settings(home=settings.home)
    bootstrap_databases(changed)

    assert prepare(changed) == [SKIPPED]

    kept = settings.home / "pgadmin" / "storage" / "mbats_example.com" / "pgpass"
    assert kept.read_text() == "*:*:*:mbats_reader:odd\\: \\\\ and 'quoted'\n"
    assert pgadmin(changed).program().environment["MBATS_CONFIG_FILES"] != before  # so the supervisor starts it anew
