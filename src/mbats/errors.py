"""What can go wrong, as one tree. The command line turns each of these into exit code 2 and one plain message.

    MbatsError
    ├── ConfigError          a setting, a secret or a file of the user's is missing or wrong
    ├── PlatformError        a service cannot start, or does not answer
    ├── UsageError           a command asked for something that does not exist
    │   ├── UnknownStrategy
    │   ├── UnknownParameter
    │   ├── UnknownSymbol
    │   ├── UnknownGranularity
    │   └── UnknownRun
    ├── DataError            bars that are absent, or wrong
    │   ├── BadBar
    │   └── NoBars
    └── SourceError          a vendor of data, or a broker, did not do what was asked
        └── OandaError
            ├── OandaRejected      the broker refused: asking again would not help
            └── OandaUnavailable   no answer, or none that can be trusted

A message says what, which, found against expected, what happens now, and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar


class MbatsError(Exception):
    """Root of every error that MBATS raises on purpose; `exit_code` is what the command line ends with.

    `passing` says that the same thing may go well a little later, though nothing is changed.
    """

    exit_code: ClassVar[int] = 2
    passing: bool = False


class ConfigError(MbatsError):
    """A setting, a secret or a file of the user's is missing or wrong."""


class PlatformError(MbatsError):
    """A service of the platform cannot start, or does not answer."""

    passing = True


class UsageError(MbatsError):
    """A command asked for something that does not exist."""


LISTED = 30  # known names that a message spells out; a broker offers well over a hundred


class UnknownName(UsageError):
    """A name that is not among the known ones; the message offers the nearest."""

    kind: ClassVar[str] = "name"
    where: ClassVar[str] = ""

    def __init__(self, name: str, known: Iterable[str], *, where: str = "") -> None:
        self.name = name
        self.known = sorted(known)
        near = difflib.get_close_matches(name, self.known, n=1)
        place = where or self.where
        parts = [f"No {self.kind} '{name}'{f' in {place}' if place else ''}."]
        if near:
            parts.append(f"Did you mean '{near[0]}'?")
        more = len(self.known) - LISTED
        parts.append(f"Known: {', '.join(self.known[:LISTED]) or 'none'}{f' and {more} more' if more > 0 else ''}.")
        super().__init__(" ".join(parts))


class UnknownStrategy(UnknownName):
    """No such file in the folder of strategies."""

    kind = "strategy"
    where = "strategies"


class UnknownParameter(UnknownName):
    """The strategy declares no such parameter."""

    kind = "parameter"


class UnknownSymbol(UnknownName):
    """The securities master does not hold this symbol."""

    kind = "symbol"
    where = "the securities master"


class UnknownGranularity(UnknownName):
    """OANDA has no candles of this length."""

    kind = "granularity"


class UnknownRun(UsageError):
    """The risk database holds no run of this number."""


class DataError(MbatsError):
    """Bars that are absent, or wrong."""


class BadBar(DataError):
    """A bar that contradicts itself; `symbol`, `granularity` and `time` (UTC) say which."""

    def __init__(self, message: str, *, symbol: str, granularity: str, time: object) -> None:
        super().__init__(message)
        self.symbol = symbol
        self.granularity = granularity
        self.time = time


class NoBars(DataError):
    """The period asked for holds no bar."""


class SourceError(MbatsError):
    """A vendor of data, or a broker, did not do what was asked."""


class OandaError(SourceError):
    """OANDA, or the simulator in its place, answered with an error or not at all."""

    def __init__(self, message: str, *, status: int | None = None, error_code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.error_code = error_code


class OandaRejected(OandaError):
    """The broker understood and refused (HTTP 4xx but 429): the same request would be refused again."""


class OandaUnavailable(OandaError):
    """No answer, 429, 5xx, or an answer that cannot be read. A read may be tried again; an order's outcome is unknown."""

    passing = True
