"""The acceptance tests: one set for every substrate, run by `MBATS_STACK=native pytest tests/stack` or `MBATS_STACK=docker …`.

Without MBATS_STACK the folder is left out, and tests/conftest.py says so at the head of the output; to name the folder
without it is an error. MBATS_STACK_HOME=FOLDER uses a platform that runs already, and leaves it running.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM, Visit, chromium, pictures_folder
from openpyxl import Workbook
from playwright.sync_api import Browser
from stack import clients
from stack.substrate import Substrate, substrate

from mbats.market import MAJORS

KINDS = ("native", "docker")
HERE = Path(__file__).parent
# What people do comes before what hurts; where secrets may have leaked to is looked at when everything has happened.
ORDER = (
    "memory",
    "login",
    "work",
    "models",
    "simulator",
    "wrong_passwords",
    "containers",
    "changes",
    "recovery",
    "trader",
    "secrets",
)
LONGEST_TEST = 1200  # seconds, with the start of the platform or the restart of all of it
LOG_LINES = 15

collect_ignore_glob = [] if os.environ.get("MBATS_STACK") else ["test_*.py"]


def pytest_configure(config: pytest.Config) -> None:
    kind = os.environ.get("MBATS_STACK") or None
    named = [argument for argument in config.args if HERE in (path := Path(argument.split("::")[0]).resolve(), *path.parents)]
    if kind is None and named:
        raise pytest.UsageError(f"{' '.join(named)}: say which platform is meant: MBATS_STACK={' or '.join(KINDS)}.")
    if kind is not None and kind not in KINDS:
        raise pytest.UsageError(f"MBATS_STACK={kind}: expected {' or '.join(KINDS)}.")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ours = [item for item in items if HERE in item.path.parents]
    for item in ours:
        item.add_marker(pytest.mark.timeout(LONGEST_TEST))
        item.add_marker("server")
    ours.sort(key=lambda item: ORDER.index(item.path.stem.removeprefix("test_")))
    items[:] = [item for item in items if item not in ours] + ours


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report: Any = yield
    stack = getattr(item, "funcargs", {}).get("stack")
    if report.failed and stack is not None:
        ends = (f"{name}:\n{_end(text)}" for name, text in stack.logs().items())
        report.sections.append(("the ends of the logs", "\n\n".join(ends)))
    return report


def _end(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines()[-LOG_LINES:])


@pytest.fixture(scope="session")
def bare_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Substrate]:
    """The platform, up, and nothing done on it yet."""
    stack = substrate(os.environ["MBATS_STACK"], tmp_path_factory.mktemp("stack"))
    try:
        stack.start()
        yield stack
    except AssertionError:
        for name, text in stack.logs().items():
            print(f"{name}:\n{_end(text)}")
        raise
    finally:
        stack.end()


@pytest.fixture(scope="session")
def stack(bare_stack: Substrate) -> Substrate:
    """The platform after its first run; on fewer bars than the sample has, so that the tests last minutes, if it is their own."""
    if not bare_stack.borrowed:
        clients.s3(bare_stack).put_object(Bucket="marketdata", Key="interested_tickers.xlsx", Body=_small_workbook())
    bare_stack.mbats("first-run", timeout=600)
    return bare_stack


def _small_workbook() -> bytes:
    book = Workbook()
    book.active.title = "daily"
    for row in (("symbol", "start"), *((symbol, "2023-01-02") for symbol in MAJORS)):
        book.active.append(row)
    book.create_sheet("minute").append(("symbol",))
    content = BytesIO()
    book.save(content)
    return content.getvalue()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.fail(f"no {CHROMIUM}, with which the pages are looked at")
    with chromium() as running:
        yield running


@pytest.fixture
def visit(browser: Browser, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Visit]]:
    """Begins somebody's first visit; at the end of none may a page have asked for anything outside this machine."""
    visits: list[Visit] = []

    def begin(**options: Any) -> Visit:
        visits.append(Visit(browser, pictures_folder(tmp_path), **options))
        return visits[-1]

    yield begin
    for number, one in enumerate(visits):
        one.look(f"{request.node.name}-{number}")
    elsewhere = [url for one in visits for url in one.left_for]
    for one in visits:
        one.end()
    assert elsewhere == [], "a page asked for something outside this machine"
