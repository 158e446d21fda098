"""Reads a granularity from the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mbats.market import Granularity


def read_granularity(text: str) -> Granularity:
    """The granularity of this name. Raises UnknownName that lists the ones OANDA has."""
    from mbats.errors import UnknownGranularity
    from mbats.market import Granularity

    try:
        return Granularity(text)
    except ValueError:
        raise UnknownGranularity(text, [granularity.value for granularity in Granularity]) from None
