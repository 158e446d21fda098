"""Reads a moment from the command line."""

from __future__ import annotations

from datetime import datetime

import click


def read_moment(ctx: click.Context, param: click.Parameter, value: str | None) -> datetime | None:
    """Callback of an option that is a date or time in ISO form; without a zone it is UTC."""
    from mbats.market import parse_utc

    try:
        return parse_utc(value) if value else None
    except ValueError:
        raise click.BadParameter(f"'{value}' is no date; write 2016-01-31 or 2016-01-31T13:00 (UTC).") from None
