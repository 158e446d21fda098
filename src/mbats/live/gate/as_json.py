"""The gate's own values as JSON text, for a journal that outlives the process: states, losses and throttles.

Decimals are texts and times have their zone, so what is read equals what was written.
"""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from mbats.errors import DataError

T = TypeVar("T")


_ADAPTERS: dict[Any, TypeAdapter[Any]] = {}  # each takes a millisecond to make, and an order waits for it


def _adapter(kind: Any) -> TypeAdapter[Any]:
    return _ADAPTERS.setdefault(kind, _ADAPTERS.get(kind) or TypeAdapter(kind))


def to_json(value: Any) -> str:
    """A GateState, Losses or Throttle as one line of JSON."""
    return _adapter(type(value)).dump_json(value).decode()


def read_json(kind: type[T], text: str | bytes) -> T:
    """The reverse of `to_json`. Raises DataError when the text is damaged; trading stays halted until it is mended.

    A state that cannot be read must never be taken for ACTIVE: nothing has a default here, and nothing unknown is passed over.
    """
    try:
        value: T = _adapter(kind).validate_json(text)
    except ValidationError as error:
        found = error.errors()[0]
        raise _damaged(kind, f"{'.'.join(map(str, found['loc'])) or 'the text'}: {found['msg']}") from None
    if json.loads(to_json(value)) != json.loads(text):
        raise _damaged(kind, "a part of it is missing, or not ours")
    return value


def _damaged(kind: type[object], what: str) -> DataError:
    return DataError(
        f"The journal's {kind.__name__} cannot be read: {what}. Nothing may be traded on it; restore the journal, or put a new "
        "state in its place."
    )
