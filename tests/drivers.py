"""What tests run in a process of its own, to be killed there."""

from __future__ import annotations

from multiprocessing.connection import Connection

from pydantic import SecretStr

import mbats.ingest.plan
import mbats.oanda.client
from mbats.database import Database
from mbats.ingest import BarRequest, UpdateOutcome, update_bars
from mbats.oanda import OandaClient
from mbats.oanda.source import OandaSource
from mbats.settings import Settings


def ingest_in_small_pages(
    settings: Settings, url: str, token: str, requests: list[BarRequest], page: int, said: Connection
) -> None:
    """Download `requests` in pages of so many bars, so that there are many moments to die at; says when a page is stored."""
    mbats.oanda.client.PAGE = page
    mbats.ingest.plan.CHUNK = page
    source = OandaSource(OandaClient(url, SecretStr(token), connections_per_second=50), vendor="oanda")
    update_bars(Database(settings, "secmaster", "ingest"), source, requests, workers=2, progress=_Teller(said))


class _Teller:
    def __init__(self, said: Connection) -> None:
        self._said = said

    def stored(self, request: BarRequest, count: object, until: object) -> None:
        self._said.send("stored")

    def finished(self, outcome: UpdateOutcome) -> None:
        self._said.send(f"{outcome.status}: {outcome.message}")
