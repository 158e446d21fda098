"""Bars from a source into the securities master, as often as one likes: `update_bars(db, source, requests)`."""

from mbats.ingest.plan import BarRequest
from mbats.ingest.sources import SOURCES, DataSource, open_source
from mbats.ingest.tickers import parse_tickers
from mbats.ingest.update import UpdateOutcome, update_bars

__all__ = ["SOURCES", "BarRequest", "DataSource", "UpdateOutcome", "open_source", "parse_tickers", "update_bars"]
