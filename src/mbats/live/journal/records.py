"""Records for PostgreSQL as texts that wait in the outbox, and back."""

from __future__ import annotations

import json
from functools import cache
from typing import Any, get_args

from pydantic import TypeAdapter, ValidationError

from mbats.errors import DataError
from mbats.riskdb.live_records import HeartbeatRecord, LiveRecord

KINDS: dict[str, type[LiveRecord]] = {kind.__name__.removesuffix("Record"): kind for kind in get_args(LiveRecord)}


@cache
def _adapter(kind: str) -> TypeAdapter[Any]:
    return TypeAdapter(KINDS[kind])


def store_record(record: LiveRecord) -> tuple[str, str | None, str]:
    """The record's kind, the slot in which only the newest waits (None for most), and its text."""
    kind = type(record).__name__.removesuffix("Record")
    slot = f"{kind}:{record.name}" if isinstance(record, HeartbeatRecord) else None
    return kind, slot, json.dumps(_adapter(kind).dump_python(record, mode="json"))


def read_record(kind: str, text: str) -> LiveRecord:
    """The reverse of `store_record`. Raises DataError for what another version wrote and this one does not know."""
    if kind not in KINDS:
        raise DataError(f"a record of kind '{kind}', which this version does not know")
    try:
        record: LiveRecord = _adapter(kind).validate_python(json.loads(text))
    except (ValueError, ValidationError) as error:
        raise DataError(f"a record of kind '{kind}' that cannot be read: {error}") from error
    return record
