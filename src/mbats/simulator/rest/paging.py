"""Lists that are longer than one answer: the newest part, and the link to the next."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from aiohttp import web

from mbats.simulator.list_queries import ListQuery
from mbats.simulator.rest.respond import url

T = TypeVar("T")


def newest(items: dict[int, T], query: ListQuery, fits: Callable[[T], bool]) -> tuple[list[T], bool]:
    """The items that the query asks for, the newest first, and whether there are more. `items` are by ascending id."""
    found: list[T] = []
    for number, item in reversed(items.items()):
        if (query.before is not None and number >= query.before) or (query.ids is not None and number not in query.ids):
            continue
        if fits(item):
            if len(found) == query.count:
                return found, True
            found.append(item)
    return found, False


def next_page(request: web.Request, response: web.Response, last_shown: int | None) -> web.Response:
    """The response with a Link to what comes after `last_shown`; None when that was all."""
    if last_shown is not None:
        address = request.rel_url.update_query(beforeID=str(last_shown))
        response.headers["Link"] = f'<{url(request, str(address))}>; rel="next"'
    return response
