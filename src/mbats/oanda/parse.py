"""OANDA's JSON as our types. Pure: no clock, no network.

Keys that we do not know are ignored, because OANDA adds some without a new version. Anything that we need and that
is absent or of the wrong kind raises OandaUnavailable, since an answer that cannot be read is no answer.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeVar

import numpy as np
import orjson

from mbats.errors import OandaUnavailable
from mbats.market import Bars, Instrument, Times, to_datetime

T = TypeVar("T")

WEEKDAYS = ("MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "SUNDAY")
WRONG_KIND = (KeyError, TypeError, ValueError, AttributeError, ArithmeticError)


def parse_accounts(payload: Any) -> list[str]:
    """The account ids of `GET /accounts`."""
    return read_part("accounts", lambda: [_text(account["id"]) for account in payload["accounts"]])


def parse_instruments(payload: Any) -> list[Instrument]:
    """The instruments of `GET /accounts/{id}/instruments`."""
    return parse_list(payload, "instruments", parse_instrument)


def parse_instrument(payload: Any) -> Instrument:
    """One instrument. Its financing is required: without it every held position would look free of cost."""
    name = payload.get("name", "?") if isinstance(payload, dict) else "?"
    return read_part(f"instrument {name}", lambda: _instrument(payload))


def parse_candles(payload: Any) -> Bars:
    """The complete candles of `GET /instruments/{name}/candles` with `price=BA`, oldest first, each time once."""
    candles = read_part("candles", lambda: list(payload["candles"]))
    try:
        bars = _bars(candles)
    except WRONG_KIND as error:
        _name_first_fault(candles)
        raise unreadable("candles", error) from error
    steps = np.diff(bars.time).astype(np.int64)
    if (steps < 0).any():
        i = int(np.argmax(steps < 0))
        raise OandaUnavailable(f"The answer cannot be read: candles: {bars.time[i + 1]}Z comes after {bars.time[i]}Z.")
    return bars[np.r_[True, steps > 0]] if (steps == 0).any() else bars


def parse_list(payload: Any, key: str, parse: Callable[[Any], T]) -> list[T]:
    """What `parse` makes of each entry of the list under `key`."""
    return [parse(entry) for entry in read_part(key, lambda: list(payload[key]))]


def still_forming(payload: Any) -> bool:
    """Whether the newest candle is not complete, which means that the broker has no newer one yet."""
    return bool(payload["candles"]) and payload["candles"][-1]["complete"] is not True


def parse_times(texts: list[str]) -> Times:
    """RFC 3339 with up to nine fractional digits and a Z, or UNIX seconds as text, as `datetime64[us]`. Raises ValueError."""
    if all(text.endswith("Z") for text in texts):
        return np.array([text[:-1][:26] for text in texts], "datetime64[us]")
    split = [text.partition(".") for text in texts]
    micros = [int(seconds) * 1_000_000 + int(f"{fraction:0<6.6}") for seconds, _, fraction in split]
    return np.array(micros, np.int64).astype("datetime64[us]")


def parse_time(text: str) -> datetime:
    """One such time, UTC. Raises ValueError or TypeError."""
    return to_datetime(parse_times([_text(text)])[0])


def parse_decimal(text: Any) -> Decimal:
    """A number that was sent as text. Raises TypeError for a JSON number, whose digits are lost, and ValueError for NaN."""
    value = Decimal(_text(text))
    if not value.is_finite():
        raise ValueError(f"found {text!r}, expected a number")
    return value


def format_time(moment: datetime) -> str:
    """A moment in the form that OANDA reads: nine fractional digits and a Z."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")


def parse_refusal(body: str) -> tuple[str, str | None]:
    """The `errorMessage` and `errorCode` of an error's body; of one that is not OANDA's JSON, its first words."""
    try:
        payload = orjson.loads(body)
        return _text(payload["errorMessage"]), payload.get("errorCode")
    except (orjson.JSONDecodeError, KeyError, TypeError):
        words = " ".join(body.split())
        return (f"{words[:120]}…" if len(words) > 120 else words) or "empty body", None


def read_part(what: str, parse: Callable[[], T]) -> T:
    """What `parse` returns; whatever is missing or of the wrong kind becomes an OandaUnavailable that names `what`."""
    try:
        return parse()
    except WRONG_KIND as error:
        raise unreadable(what, error) from error


def unreadable(what: str, error: Exception) -> OandaUnavailable:
    """The error that says which part of an answer is missing or of the wrong kind."""
    reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
    return OandaUnavailable(f"The answer cannot be read: {what}: {reason}.")


def _instrument(payload: Any) -> Instrument:
    financing = payload["financing"]
    charged = {day["dayOfWeek"]: int(day["daysCharged"]) for day in financing["financingDaysOfWeek"]}
    monday, tuesday, wednesday, thursday, friday, saturday, sunday = (charged[day] for day in WEEKDAYS)
    return Instrument(
        name=_text(payload["name"]),
        display_name=_text(payload["displayName"]),
        type=_text(payload["type"]),
        pip_location=int(payload["pipLocation"]),
        display_precision=int(payload["displayPrecision"]),
        units_precision=int(payload["tradeUnitsPrecision"]),
        minimum_units=Decimal(payload["minimumTradeSize"]),
        maximum_units=Decimal(payload["maximumOrderUnits"]),
        margin_rate=Decimal(payload["marginRate"]),
        long_rate=Decimal(financing["longRate"]),
        short_rate=Decimal(financing["shortRate"]),
        financing_days=(monday, tuesday, wednesday, thursday, friday, saturday, sunday),
    )


def _bars(candles: list[Any]) -> Bars:
    complete = [candle for candle in candles if candle["complete"] is True]
    time = parse_times([candle["time"] for candle in complete])
    bid, ask = ([candle[side] for candle in complete] for side in ("bid", "ask"))
    columns: list[Any] = [np.array([float(quote[key]) for quote in side], np.float64) for side in (bid, ask) for key in "ohlc"]
    columns.append(np.array([candle["volume"] for candle in complete], np.int64))
    return Bars(time, *columns)


def _name_first_fault(candles: list[Any]) -> None:
    for number, candle in enumerate(candles, 1):
        time = candle.get("time", "without a time") if isinstance(candle, dict) else "of no known form"
        read_part(f"candle {number} of {len(candles)} ({time})", lambda candle=candle: _bars([candle]))  # type: ignore[misc]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"found {value!r}, expected text")
    return value
