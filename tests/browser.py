"""Chromium as people have it, for tests that look at a page: what it asked for, what it complained of, and pictures of it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Request, sync_playwright

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
LOCAL = ("127.0.0.1", "localhost")
PATIENCE = 60.0  # seconds; the machine may be busy with the services that are looked at


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser for as long as the block lasts."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS.split())
        yield browser
        browser.close()


class Visit:
    """One person's visit, who has never been here: a page with nothing stored, in a window of an ordinary screen.

    `left_for` holds every address elsewhere that a page tried to reach. None is reached; those which the page's own policy
    (CSP) held back are not counted.
    """

    def __init__(self, browser: Browser, pictures: Path, **options: Any) -> None:
        self.pictures = pictures
        self.complaints: list[str] = []
        self._elsewhere: list[Request] = []
        self.context = browser.new_context(viewport={"width": 1400, "height": 900}, **options)
        self.context.set_default_timeout(PATIENCE * 1000)
        self.context.route(lambda url: not _is_local(url), lambda route: route.abort("blockedbyclient"))
        self.context.on("request", self._note)
        self.page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    @property
    def left_for(self) -> list[str]:
        return [request.url for request in self._elsewhere if request.failure != "csp"]

    def look(self, name: str) -> Path:
        """Keep a picture of what is seen now."""
        self.pictures.mkdir(parents=True, exist_ok=True)
        path = self.pictures / f"{name}.png"
        self.page.screenshot(path=path)
        return path

    def wait_until(self, condition: str, seconds: float = PATIENCE) -> None:
        """Wait for a JavaScript function to return something true."""
        deadline = time.monotonic() + seconds
        while not self.page.evaluate(condition):
            assert time.monotonic() < deadline, f"{condition} did not come true; complaints: {self.complaints}"
            self.page.wait_for_timeout(100)

    def end(self) -> None:
        self.context.close()

    def _note(self, request: Request) -> None:
        if not _is_local(request.url):
            self._elsewhere.append(request)


def _is_local(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in ("data", "blob", "about") or parts.hostname in LOCAL


def pictures_folder(otherwise: Path) -> Path:
    """Where pictures are kept: MBATS_SCREENSHOTS, or the folder given here."""
    return Path(os.environ.get("MBATS_SCREENSHOTS") or otherwise)


__all__ = ["CHROMIUM", "FLAGS", "Visit", "chromium", "pictures_folder"]
