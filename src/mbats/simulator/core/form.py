"""One object of a request's body, read key by key.

What it gives goes into the fields of a transaction: in canonical form when it is right, as the client wrote it when it breaks a
rule. The first broken rule is the reason of the reject. What is no such value at all (a text that is no number, a word that OANDA
does not know) raises Refusal with the words that OANDA was seen to answer, and leaves no transaction.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np

from mbats.market import to_us
from mbats.simulator.core.times import write_time
from mbats.simulator.core.values import Transaction
from mbats.simulator.errors import invalid, missing

NUMBER = re.compile(r"[+-]?(?:\d{1,20}(?:\.\d{0,20})?|\.\d{1,20})", re.ASCII)
UNIX_TIME = re.compile(r"(\d{1,11})(?:\.(\d{1,9}))?", re.ASCII)
RFC3339_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,12}))?(Z|z|[+-]\d\d:\d\d)?", re.ASCII)
ABOVE_ANY_PRICE = Decimal(10) ** 9
MAX_CLIENT_TEXT = 128


class Form:
    """One JSON object, called `path` in refusals. `strict` counts the zeros at the end of a price as digits.

    `fields` and `reason` say what was found so far.
    """

    def __init__(self, body: Any, path: str, *, strict: bool = True) -> None:
        if not isinstance(body, Mapping):
            raise invalid(path) if path else missing()
        self.body: Mapping[str, Any] = body
        self.path = path
        self.strict = strict
        self.fields: Transaction = {}
        self.reason: str | None = None

    def reject(self, reason: str) -> None:
        """Note a broken rule; the first one stays."""
        self.reason = self.reason or reason

    def has(self, key: str) -> bool:
        """Whether the key is there with a value; null is none."""
        return self.body.get(key) is not None

    def invalid(self, key: str) -> Exception:
        """The refusal of this key's value."""
        return invalid(f"{self.path}.{key}" if self.path else key)

    def part(self, key: str) -> Form:
        """The object under this key."""
        return Form(self.body[key], f"{self.path}.{key}" if self.path else key, strict=self.strict)

    def text(self, key: str) -> str | None:
        value = self.body.get(key)
        if value is not None and not isinstance(value, str):
            raise self.invalid(key)
        return value

    def word(self, key: str, known: Iterable[str], default: str) -> str:
        """One of the words of an enumeration, put into the fields."""
        value = self.text(key)
        if value is not None and value not in known:
            raise self.invalid(key)
        self.fields[key] = value or default
        return value or default

    def number(self, key: str) -> tuple[Decimal, str] | None:
        """A decimal number, given as a text or as a number, with its text as it was sent."""
        value = self.body.get(key)
        if value is None:
            return None
        if isinstance(value, float):
            value = f"{Decimal(repr(value)):f}"
        elif isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str) or not NUMBER.fullmatch(value):
            raise self.invalid(key)
        return Decimal(value), value

    def price(self, key: str, reasons: str, digits: int | None) -> Decimal | None:
        """A price or a distance above zero with at most so many digits; None when it is absent or wrong.

        `reasons` is what the reject reasons begin with. `digits` are not checked when they are not known.
        """
        found = self.number(key)
        if found is None:
            return None
        value, text = found
        self.fields[key] = text
        if not 0 < value < ABOVE_ANY_PRICE:
            self.reject(f"{reasons}_INVALID")
        elif digits is not None and self._digits(value, text) > digits:
            self.reject(f"{reasons}_PRECISION_EXCEEDED")
        elif digits is not None:
            self.fields[key] = f"{value:.{digits}f}"
            return value
        return None

    def moment(self, key: str) -> np.datetime64 | None:
        """A time in RFC 3339 or in seconds since 1970, to the microsecond (UTC), put into the fields with nine digits."""
        text = self.text(key)
        if text is None:
            return None
        try:
            found = _moment(text)
        except (ValueError, OverflowError, OSError):
            found = None  # a date that does not exist
        if found is None:
            raise self.invalid(key)
        self.fields[key] = write_time(found)
        return found

    def extensions(self, key: str, reasons: str) -> dict[str, str]:
        """Client extensions, put into the fields when there are any; `reasons` begins their reject reasons."""
        if not self.has(key):
            return {}
        part = self.part(key)
        found = {name: text for name in ("id", "tag", "comment") if (text := part.text(name)) is not None}
        for name, text in found.items():
            if len(text) > MAX_CLIENT_TEXT or (name == "id" and not text):
                self.reject(f"{reasons}_{name.upper()}_INVALID")
        if found:
            self.fields[key] = found
        return found

    def finish(self, kind: str) -> tuple[Transaction, str | None]:
        """The fields under their transaction type, which is the reject when a rule was broken."""
        if self.reason is None:
            return {"type": kind, **self.fields}, None
        return {"type": f"{kind}_REJECT", **self.fields, "rejectReason": self.reason}, self.reason

    def _digits(self, value: Decimal, text: str) -> int:
        fraction = (text if self.strict else f"{value:f}".rstrip("0")).partition(".")[2]
        return len(fraction)


def _moment(text: str) -> np.datetime64 | None:
    if unix := UNIX_TIME.fullmatch(text):
        return to_us(datetime.fromtimestamp(int(unix[1]), UTC) + _fraction(unix[2]))
    if parts := RFC3339_TIME.fullmatch(text):
        return to_us(datetime.fromisoformat(f"{parts[1]}T{parts[2]}{(parts[4] or 'Z').upper()}") + _fraction(parts[3]))
    return None


def _fraction(digits: str | None) -> timedelta:
    return timedelta(microseconds=int((digits or "0").ljust(6, "0")[:6]))
