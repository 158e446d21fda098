"""From what a Backtrader line is computed: the feeds at its roots, and whether it reads ahead."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import backtrader as bt
from backtrader.linebuffer import LineActions, _LineForward
from backtrader.lineseries import LineSeriesStub


def sources(line: Any, data: Any) -> set[str]:
    """The names of all feeds that a line is computed from, other than `data`; what is no feed is called by its class."""
    roots = (each for each in _ancestry(line) if isinstance(each, (bt.feed.AbstractDataBase, bt.Strategy)))
    return {getattr(root, "_name", "") or type(root).__name__ for root in roots if root is not data}


def looks_ahead(line: Any) -> bool:
    """Whether any part of a line is shifted into the past, as `data.close(1)` is: a value from a later bar."""
    return any(isinstance(each, _LineForward) for each in _ancestry(line))


def _ancestry(line: Any) -> Iterator[Any]:
    """A line and all it is computed from. It ends at the feeds, and at a strategy."""
    seen: set[int] = set()
    waiting = [line]
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        if isinstance(each, (bt.feed.AbstractDataBase, bt.Strategy)):
            continue
        if isinstance(each, LineActions):
            waiting += each._datas
        elif isinstance(each, LineSeriesStub):
            waiting.append(each.lines[0])
        elif isinstance(each, bt.LineIterator):
            waiting += each.datas
            waiting += each._lineiterators[each.IndType]
        else:
            waiting.append(each._owner)  # one line of several
