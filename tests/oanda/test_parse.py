"""OANDA's payloads, in the form in which they were recorded, as our types."""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from fakes import candle, fake_bars, fake_instrument

from mbats.errors import OandaUnavailable
from mbats.market import Granularity
from mbats.oanda.parse import (
    format_time,
    parse_accounts,
    parse_candles,
    parse_instrument,
    parse_instruments,
    parse_refusal,
    parse_times,
    still_forming,
)

BARS = fake_bars(Granularity.M1, "2024-03-05", 4)


def page(**changes: Any) -> dict[str, Any]:
    """Three complete candles and one still forming; `changes` are made to the second."""
    candles = [candle(BARS, i, complete=i < 3) for i in range(4)]
    candles[1] |= changes
    return {"instrument": "EUR_USD", "granularity": "M1", "candles": candles}


def test_candles_leave_out_the_bar_that_is_still_forming():
    bars = parse_candles(page())

    assert bars.fingerprint() == BARS[:3].fingerprint()
    assert still_forming(page())


def test_a_page_that_ends_with_a_complete_candle_is_not_forming():
    reply = page()
    reply["candles"].pop()

    assert not still_forming(reply)
    assert not still_forming({"candles": []})


def test_a_page_without_candles_is_no_bars_of_the_right_types():
    bars = parse_candles({"candles": []})

    assert len(bars) == 0
    assert bars.time.dtype == "datetime64[us]"
    assert bars.volume.dtype == np.int64


def test_unknown_keys_are_ignored():
    assert len(parse_candles(page(dividendAdjustment="0.0", mid={"o": "1"}))) == 3


@pytest.mark.parametrize(
    "text",
    ["2016-10-17T15:04:05.000000000Z", "2016-10-17T15:04:05.000Z", "2016-10-17T15:04:05Z", "1476716645.000000000", "1476716645"],
)
def test_both_forms_of_time_are_read(text):
    assert parse_times([text]).tolist() == [datetime(2016, 10, 17, 15, 4, 5)]  # noqa: DTZ001  numpy's have no zone


def test_nine_fractional_digits_keep_their_microseconds():
    for text in ("2016-10-17T15:04:05.123456789Z", "1476716645.123456789"):
        assert parse_times([text])[0] == np.datetime64("2016-10-17T15:04:05.123456")


def test_times_are_sent_in_utc_with_nine_digits():
    moment = datetime.fromisoformat("2024-03-05T12:00:00.25+02:00")

    assert format_time(moment) == "2024-03-05T10:00:00.250000000Z"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ask": {"o": "1.1", "h": "1.1", "l": "1.1"}}, "'c' is missing"),
        ({"bid": None}, "'NoneType' object is not subscriptable"),
        ({"bid": {"o": "n/a", "h": "1", "l": "1", "c": "1"}}, "could not convert string to float: 'n/a'"),
        ({"time": "yesterday"}, "invalid literal for int() with base 10: 'yesterday'"),
        ({"time": "2024-03-05T00:01:00+02:00"}, "invalid literal for int()"),
        ({"time": None}, "'NoneType' object has no attribute"),
        ({"volume": "many"}, "invalid literal for int()"),
        ({"volume": 10**30}, "too"),
    ],
)
def test_a_candle_that_cannot_be_read_is_named(changes, reason):
    with pytest.raises(OandaUnavailable, match=r"cannot be read: candle 2 of 4 \(") as caught:
        parse_candles(page(**changes))

    assert reason in str(caught.value)


@pytest.mark.parametrize("payload", [None, [], {}, {"candles": None}, {"candles": 5}, "candles"])
def test_an_answer_without_candles_cannot_be_read(payload):
    with pytest.raises(OandaUnavailable, match="cannot be read: candles: "):
        parse_candles(payload)


def test_a_candle_without_its_complete_flag_is_not_taken_for_complete():
    reply = page()
    del reply["candles"][1]["complete"]

    with pytest.raises(OandaUnavailable, match=r"candle 2 of 4 .* 'complete' is missing"):
        parse_candles(reply)


def test_a_candle_that_came_twice_is_taken_once():
    reply = page()
    reply["candles"].insert(1, reply["candles"][1])

    assert parse_candles(reply).fingerprint() == BARS[:3].fingerprint()


def test_candles_that_go_back_in_time_cannot_be_read():
    reply = page()
    reply["candles"][:2] = reply["candles"][1::-1]

    with pytest.raises(OandaUnavailable, match=r"2024-03-05T00:00:00.000000Z comes after 2024-03-05T00:01:00.000000Z"):
        parse_candles(reply)


def test_an_instrument_keeps_its_decimals_exact():
    instrument = parse_instrument(fake_instrument("USD_JPY"))

    assert (instrument.name, instrument.base, instrument.quote, instrument.type) == ("USD_JPY", "USD", "JPY", "CURRENCY")
    assert (instrument.pip, instrument.display_precision, instrument.units_precision) == (Decimal("0.01"), 3, 0)
    assert (instrument.minimum_units, instrument.maximum_units) == (Decimal(1), Decimal(100_000_000))
    assert (instrument.margin_rate, instrument.long_rate, instrument.short_rate) == (
        Decimal("0.0333"),
        Decimal("-0.0123"),
        Decimal("0.0045"),
    )
    assert instrument.financing_days == (1, 1, 3, 1, 1, 0, 0)


def test_an_instrument_without_financing_is_refused_because_holding_it_would_look_free():
    payload = fake_instrument("EUR_USD")
    del payload["financing"]

    with pytest.raises(OandaUnavailable, match="instrument EUR_USD: 'financing' is missing"):
        parse_instruments({"instruments": [payload]})


@pytest.mark.parametrize("change", [{"marginRate": "five"}, {"pipLocation": None}, {"displayName": 7}])
def test_an_instrument_with_a_value_of_the_wrong_kind_is_named(change):
    with pytest.raises(OandaUnavailable, match="instrument EUR_USD: "):
        parse_instrument(fake_instrument("EUR_USD") | change)


def test_accounts_are_their_ids():
    assert parse_accounts({"accounts": [{"id": "101-1", "tags": []}, {"id": "101-2", "mt4AccountID": 5}]}) == ["101-1", "101-2"]
    with pytest.raises(OandaUnavailable, match="accounts: found 101, expected text"):
        parse_accounts({"accounts": [{"id": 101}]})


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('{"errorMessage":"Invalid value specified for \'from\'"}', ("Invalid value specified for 'from'", None)),
        ('{"errorMessage":"no","errorCode":"NO_SUCH_ORDER"}', ("no", "NO_SUCH_ORDER")),
        ("<html>\n <h1>Bad\n Gateway</h1></html>", ("<html> <h1>Bad Gateway</h1></html>", None)),
        ('["no"]', ('["no"]', None)),
        ("", ("empty body", None)),
        ("x" * 500, ("x" * 120 + "…", None)),
    ],
)
def test_the_reason_of_a_refusal_is_found_in_any_body(body, expected):
    assert parse_refusal(body) == expected


def test_a_full_page_is_read_as_it_was_sent():
    bars = fake_bars(Granularity.M1, "2024-01-02", 5000)
    payload = json.loads(json.dumps({"candles": [candle(bars, i) for i in range(5000)]}))

    assert parse_candles(payload).fingerprint() == bars.fingerprint()
