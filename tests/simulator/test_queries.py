"""What a query may say, and the words with which the rest is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbats.simulator.alignment import Alignment, Weekday
from mbats.simulator.errors import Refusal
from mbats.simulator.list_queries import read_id_range, read_list_query
from mbats.simulator.queries import read_candle_query, read_sides, read_specifications, read_time

NOW = np.datetime64("2024-05-16T09:31:17.250000", "us")


def refused(**query: str) -> str:
    with pytest.raises(Refusal) as refusal:
        read_candle_query("EUR_USD", {name.rstrip("_"): value for name, value in query.items()}, NOW)
    assert refusal.value.status == 400
    return refusal.value.message


def test_defaults_are_those_of_oanda():
    query = read_candle_query("EUR_USD", {}, NOW)

    assert (query.granularity, query.sides, query.start, query.end, query.count) == ("S5", ("M",), None, None, None)
    assert query.alignment == Alignment(17, "America/New_York", Weekday.FRIDAY)
    assert (query.smooth, query.include_first) == (False, True)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"granularity": "M3"}, "Invalid value specified for 'granularity'"),
        ({"granularity": "m1"}, "Invalid value specified for 'granularity'"),
        ({"count": "0"}, "Invalid value specified for 'count'"),
        ({"count": "-1"}, "Invalid value specified for 'count'"),
        ({"count": "1e3"}, "Invalid value specified for 'count'"),
        ({"count": "٣"}, "Invalid value specified for 'count'"),
        ({"count": "5001"}, "Maximum value for 'count' exceeded"),
        ({"price": ""}, "Invalid value specified for 'price'"),
        ({"price": "X"}, "Invalid value specified for 'price'"),
        ({"from_": "yesterday"}, "Invalid value specified for 'from'"),
        ({"from_": "2024-02-30T00:00:00Z"}, "Invalid value specified for 'from'"),
        ({"to": "999999999999"}, "Invalid value specified for 'to'"),
        ({"to": "2024-05-16T09:31:17.250001Z"}, "Invalid value specified for 'to'. Time is in the future"),
        ({"from_": "2024-05-17"}, "Invalid value specified for 'from'. Time is in the future"),
        ({"from_": "2024-05-02", "to": "2024-05-01"}, "Invalid value specified for 'to'. Time is before 'from'"),
        (
            {"from_": "2024-05-01", "to": "2024-05-02", "count": "10"},
            "'count' cannot be specified when 'to' and 'from' parameters are set",
        ),
        ({"smooth": "yes"}, "Invalid value specified for 'smooth'"),
        ({"includeFirst": ""}, "Invalid value specified for 'includeFirst'"),
        ({"dailyAlignment": "24"}, "Invalid value specified for 'dailyAlignment'"),
        ({"dailyAlignment": "-1"}, "Invalid value specified for 'dailyAlignment'"),
        ({"alignmentTimezone": "New York"}, "Invalid value specified for 'alignmentTimezone'"),
        ({"alignmentTimezone": "../etc/passwd"}, "Invalid value specified for 'alignmentTimezone'"),
        ({"weeklyAlignment": "friday"}, "Invalid value specified for 'weeklyAlignment'"),
    ],
)
def test_a_wrong_value_is_refused_in_the_words_of_oanda(query, words):
    assert refused(**query) == words


def test_a_range_of_more_than_five_thousand_candles_is_refused_not_cut():
    edge = {"granularity": "M1", "from_": "2024-05-01T00:00:00Z", "to": "2024-05-04T11:20:00Z"}

    assert read_candle_query("EUR_USD", {name.rstrip("_"): value for name, value in edge.items()}, NOW)
    assert refused(**edge | {"to": "2024-05-04T11:20:00.000001Z"}) == "Maximum value for 'count' exceeded"


@pytest.mark.parametrize(
    "text",
    [
        "2024-05-16T09:30:00.123456789Z",
        "2024-05-16T09:30:00.123456Z",
        "2024-05-16 09:30:00.123456",
        "2024-05-16T11:30:00.123456+02:00",
        "1715851800.123456789",
    ],
)
def test_a_time_may_be_written_in_any_way_that_oanda_reads(text):
    assert read_time({"from": text}, "from") == np.datetime64("2024-05-16T09:30:00.123456", "us")


def test_a_date_and_whole_seconds_are_times_too():
    assert read_time({"from": "2024-05-16"}, "from") == np.datetime64("2024-05-16", "us")
    assert read_time({"from": "0"}, "from") == np.datetime64("1970-01-01", "us")


def test_price_components_come_in_any_order_and_each_once():
    assert read_sides("BA") == read_sides("AB") == read_sides("ABBA") == ("B", "A")
    assert read_sides("MBA") == ("B", "M", "A")


def test_latest_specifications_are_read_one_by_one():
    found = read_specifications({"candleSpecifications": "EUR_USD:S10:BM,USD_JPY:D"})

    assert [(item.instrument, item.granularity, item.sides) for item in found] == [
        ("EUR_USD", "S10", ("B", "M")),
        ("USD_JPY", "D", ("M",)),
    ]
    for wrong in ("EUR_USD", "EUR_USD:D:B:A", "EUR_USD:D,"):
        with pytest.raises(Refusal, match="candleSpecifications"):
            read_specifications({"candleSpecifications": wrong})


texts = st.one_of(
    st.text(max_size=30),
    st.integers(-(10**14), 10**14).map(str),
    st.datetimes().map(lambda moment: moment.isoformat() + "Z"),
    st.sampled_from(["S5", "D", "M", "BA", "True", "false", "17", "Europe/Berlin", "Friday", "", "0", "1", "5000", "NaN", "1e5"]),
)
names = st.sampled_from(
    [
        "granularity",
        "price",
        "from",
        "to",
        "count",
        "smooth",
        "includeFirst",
        "dailyAlignment",
        "alignmentTimezone",
        "weeklyAlignment",
    ]
)


@given(st.dictionaries(names, texts))
def test_any_text_is_read_or_refused_and_nothing_else(query):
    try:
        read_candle_query("EUR_USD", query, NOW)
    except Refusal as refusal:
        assert refusal.status == 400
        assert refusal.message


list_names = st.sampled_from(["state", "ids", "instrument", "count", "beforeID"])


@given(st.dictionaries(list_names, st.one_of(texts, st.sampled_from(["ALL", "1,2"]))))
def test_any_text_of_a_list_is_read_or_refused_and_nothing_else(query):
    try:
        found = read_list_query(query, ("EUR_USD",), ("PENDING", "ALL"))
    except Refusal as refusal:
        assert refusal.status == 400
    else:
        assert 1 <= found.count <= 500
        assert set(found.instruments) <= {"EUR_USD"}


@given(texts, texts, st.integers(1, 10**6))
def test_a_range_of_ids_is_one_of_the_account_or_refused(first, end, last):
    try:
        found = read_id_range({"from": first, "to": end}, last)
    except Refusal as refusal:
        assert refusal.status in (400, 416)
    else:
        assert 1 <= found[0] <= found[1] <= last


def test_a_time_that_has_not_come_may_count_as_now():
    asked = read_candle_query("EUR_USD", {"to": "2030-01-01"}, NOW, clamp=True)

    assert asked.end == NOW
