"""What a request for a list asks for: orders and trades by state, pair and id, transactions by type and id.

As in `queries`: plain strings in, typed values out, or a Refusal in OANDA's words.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from mbats.simulator.errors import bad_range, invalid, missing
from mbats.simulator.queries import Query, read_whole

LISTED, MAX_LISTED = 50, 500  # orders or trades in one answer
PAGE_SIZE, MAX_PAGE_SIZE = 100, 1000  # transactions on one page


@dataclass(frozen=True, slots=True)
class ListQuery:
    """A checked request for orders or trades: the newest `count` that fit, of those with an id below `before`."""

    ids: frozenset[int] | None
    state: str
    instruments: tuple[str, ...]
    count: int
    before: int | None


def read_list_query(query: Query, known: tuple[str, ...], states: Collection[str]) -> ListQuery:
    """Read the parameters of a list of orders or trades; `states` are its words, the first of them the default.

    OANDA's documentation calls `beforeID` the maximum id, but its recorded links to a next page name the last one shown.
    """
    state = query.get("state", next(iter(states)))
    if state not in states:
        raise invalid("state")
    ids = [_read_id(text, "ids") for text in query["ids"].split(",")] if query.get("ids") else None
    names = tuple(dict.fromkeys(query["instrument"].split(","))) if "instrument" in query else known
    if not set(names) <= set(known):
        raise invalid("instrument")
    before = _read_id(query["beforeID"], "beforeID") if "beforeID" in query else None
    count = read_whole(query, "count", MAX_LISTED) if "count" in query else LISTED
    return ListQuery(frozenset(ids) if ids is not None else None, state, names, count, before)


def read_types(query: Query, known: Mapping[str, frozenset[str]]) -> tuple[str, ...]:
    """The comma-separated filters of `type`; none when it is absent."""
    names = tuple(dict.fromkeys(query["type"].split(","))) if query.get("type") else ()
    if not set(names) <= set(known):
        raise invalid("type")
    return names


def read_page_size(query: Query) -> int:
    """How many transactions a page is to have."""
    return read_whole(query, "pageSize", MAX_PAGE_SIZE) if "pageSize" in query else PAGE_SIZE


def read_id_range(query: Query, last: int) -> tuple[int, int]:
    """`from` and `to` of an account whose last transaction is `last`, both included."""
    first, end = _required_id(query, "from"), _required_id(query, "to")
    if not 1 <= first <= end <= last:
        raise bad_range()
    return first, end


def read_since(query: Query, name: str, last: int) -> int:
    """The id of a transaction after which everything is asked for; 0 for all."""
    since = _required_id(query, name)
    if since > last:
        raise bad_range()
    return since


def _required_id(query: Query, name: str) -> int:
    if name not in query:
        raise missing()
    return _read_id(query[name], name)


def _read_id(text: str, name: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise invalid(name)
    return int(text)
