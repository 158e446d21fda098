"""Where bars can come from: one protocol, and one line for each source that speaks it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from datetime import datetime
from typing import Protocol

from mbats.errors import UnknownName
from mbats.market import Bars, Granularity, Instrument
from mbats.oanda.source import OandaSource
from mbats.settings import Settings


class DataSource(Protocol):
    """A vendor of bars. It is used by several threads at once, and raises SourceError when it cannot do what is asked."""

    @property
    def vendor(self) -> str:
        """What the bars are called where they are kept. Bars of different vendors are never put into one series."""

    def instruments(self, names: Collection[str]) -> list[Instrument]:
        """Those of `names` that there are."""

    def offered(self) -> list[str]:
        """Every name that there is, to find the one that was meant."""

    def bars(self, symbol: str, granularity: Granularity, *, start: datetime, end: datetime | None) -> Iterator[Bars]:
        """Pages of complete bars that start in [start, end), UTC, oldest first, none twice; no `end` means up to now."""

    def close(self) -> None:
        """Give back its connections."""


SOURCES: dict[str, Callable[[Settings], DataSource]] = {
    "oanda": OandaSource.from_settings,
}


class UnknownSource(UnknownName):
    """No source of this name."""

    kind = "source"


def open_source(name: str, settings: Settings) -> DataSource:
    """The source of this name, as the settings have it. Raises UnknownSource, and ConfigError without its token."""
    if name not in SOURCES:
        raise UnknownSource(name, SOURCES)
    return SOURCES[name](settings)
