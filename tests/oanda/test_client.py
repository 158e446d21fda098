"""Our client against a real HTTP server: what it asks, what it returns, and every way in which an answer can fail to come."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from fakes import ACCOUNT, TOKEN, FakeOanda, bar_times, fake_bars
from oandapyV20.oandapyV20 import TRADING_ENVIRONMENTS
from pydantic import SecretStr

from mbats.errors import ConfigError, OandaError, OandaRejected, OandaUnavailable
from mbats.market import Bars, Granularity, parse_utc, to_datetime
from mbats.oanda import OandaClient
from mbats.settings import Settings, load_settings

START = parse_utc("2024-01-02")
MINUTES = fake_bars(Granularity.M1, "2024-01-02", 5_500, drop=0.02)
UNAVAILABLE = ["429", "503 html", "504", "bad utf-8", "html with 200", "half the json", "empty", "list", "cut", "reset", "hang"]
UNREADABLE = ["backwards", "without ask", "wrong pair"]


@pytest.fixture
def oanda() -> Iterator[FakeOanda]:
    fake = FakeOanda({("EUR_USD", "M1"): MINUTES})
    yield fake
    fake.close()


@pytest.fixture
def client(oanda: FakeOanda) -> Iterator[OandaClient]:
    with impatient(oanda) as client:
        yield client


def impatient(oanda: FakeOanda, **options) -> OandaClient:
    """A client that does not make a test wait."""
    quick = {
        "timeout": (1.0, 1.0),
        "attempts": 3,
        "first_pause": 0.01,
        "longest_pause": 0.02,
        "connections_per_second": 50,
    } | options
    return OandaClient(oanda.url, SecretStr(TOKEN), **quick)


def minutes(client: OandaClient, **period) -> Bars:
    return Bars.concatenate(list(client.candles("EUR_USD", Granularity.M1, **({"start": START} | period))))


# --- What it asks and returns ------------------------------------------------------------------------------------


def test_accounts_and_instruments_are_typed(client):
    assert client.accounts() == [ACCOUNT]
    assert [instrument.name for instrument in client.instruments(ACCOUNT)] == ["EUR_USD", "USD_JPY"]
    assert [instrument.name for instrument in client.instruments(ACCOUNT, ["USD_JPY"])] == ["USD_JPY"]


def test_no_names_mean_no_instruments_and_not_all_of_them(client, oanda):
    assert client.instruments(ACCOUNT, []) == []
    assert oanda.seen == []


def test_candles_of_several_pages_come_oldest_first_and_each_once(client):
    pages = list(client.candles("EUR_USD", Granularity.M1, start=START))

    assert [len(page) for page in pages] == [5000, 500]
    assert Bars.concatenate(pages).fingerprint() == MINUTES.fingerprint()


def test_an_end_is_exclusive_and_no_request_names_it(client, oanda):
    end = to_datetime(MINUTES.time[5200])

    bars = minutes(client, end=end)

    assert bars.fingerprint() == MINUTES[:5200].fingerprint()
    assert all("to" not in seen.params for seen in oanda.seen)


def test_a_short_period_asks_for_few_candles(client, oanda):
    bars = minutes(client, start=to_datetime(MINUTES.time[100]), end=to_datetime(MINUTES.time[110]))

    assert bars.fingerprint() == MINUTES[100:110].fingerprint()
    assert all(int(seen.params["count"]) < 20 for seen in oanda.seen)


def test_a_start_inside_a_bar_leaves_that_bar_out(client):
    inside = to_datetime(MINUTES.time[3]).replace(second=30)

    assert minutes(client, start=inside).fingerprint() == MINUTES[4:].fingerprint()


def test_an_empty_or_reversed_period_asks_nothing(client, oanda):
    assert len(minutes(client, end=START)) == 0
    assert len(minutes(client, end=parse_utc("2024-01-01"))) == 0
    assert oanda.seen == []


def test_a_period_before_all_history_begins_with_the_first_bar_there_is(client):
    assert minutes(client, start=parse_utc("1990-01-01")).fingerprint() == MINUTES.fingerprint()


def test_the_bar_still_forming_is_left_out_and_ends_the_download(client, oanda):
    oanda.now = to_datetime(MINUTES.time[20]).replace(second=59)

    assert minutes(client).fingerprint() == MINUTES[:20].fingerprint()
    assert len(oanda.seen) == 1


def test_a_bar_still_forming_alone_is_no_bars(client, oanda):
    oanda.now = to_datetime(MINUTES.time[0]).replace(second=59)

    assert minutes(client).fingerprint() == Bars.empty().fingerprint()


def test_days_come_in_one_page(oanda):
    days = fake_bars(Granularity.D, "2014-01-01", 2600)
    oanda.bars["USD_JPY", "D"] = days

    with impatient(oanda) as client:
        pages = list(client.candles("USD_JPY", Granularity.D, start=parse_utc("2014-01-01")))

    assert bar_times(pages) == [to_datetime(moment) for moment in days.time]
    assert {moment.hour for moment in bar_times(pages)} == {21, 22}


# --- Faults ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [*UNAVAILABLE, *UNREADABLE])
@pytest.mark.proves("R26")
def test_a_read_is_tried_again_after(fault, client, oanda):
    oanda.fail(fault)

    assert minutes(client).fingerprint() == MINUTES.fingerprint()


@pytest.mark.parametrize("fault", [*UNAVAILABLE, *UNREADABLE])
def test_a_fault_that_stays_is_unavailable_after_so_many_attempts(fault, client, oanda):
    oanda.fail(*[fault] * 3)

    with pytest.raises(
        OandaUnavailable, match=r"GET v3/instruments/EUR_USD/candles at http.* Gave up after 3 attempts"
    ) as caught:
        minutes(client)

    assert len(oanda.seen) == 3
    assert caught.value.status == {"429": 429, "503 html": 503, "504": 504}.get(fault)


def test_candles_sent_twice_are_yielded_once(client, oanda):
    oanda.fail("twice", "twice")

    assert minutes(client).fingerprint() == MINUTES.fingerprint()


def test_a_server_that_is_not_there_is_unavailable(oanda):
    oanda.close()

    with impatient(oanda) as client, pytest.raises(OandaUnavailable, match=r"no answer \(ConnectionError"):
        client.accounts()


@pytest.mark.parametrize(
    ("call", "status", "reason"),
    [
        (lambda client: client.instruments(ACCOUNT, ["EUR_USDD"]), 400, "Invalid value specified for 'instruments'"),
        (lambda client: client.instruments("101-001-1-001"), 403, "MBATS_OANDA_ACCOUNT"),
        (
            lambda client: list(client.candles("NO_SUCH", Granularity.D, start=START)),
            400,
            "Invalid value specified for 'instrument'",
        ),
        (lambda client: list(client.candles("EUR/USD", Granularity.D, start=START)), 400, "Invalid value"),
        (lambda client: list(client.candles("EUR_USD", Granularity.D, start=parse_utc("2099-01-01"))), 400, "in the future"),
    ],
)
def test_a_refusal_is_not_tried_again_and_says_why(call, status, reason, client, oanda):
    with pytest.raises(OandaRejected) as caught:
        call(client)

    assert len(oanda.seen) == 1
    assert caught.value.status == status
    assert f"HTTP {status}" in str(caught.value)
    assert reason in str(caught.value)


def test_a_wrong_token_says_that_practice_and_live_may_be_mixed_up(oanda):
    oanda.token = "another"

    with impatient(oanda) as client, pytest.raises(OandaRejected, match="Insufficient authorization") as caught:
        client.accounts()

    assert caught.value.status == 401
    assert "practice token works only on the practice host" in str(caught.value)
    assert "MBATS_OANDA_ENVIRONMENT" in str(caught.value)


# --- The token ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [*UNAVAILABLE, "500 quoting the token"])
def test_the_token_is_in_no_message_no_traceback_and_no_log(fault, oanda, caplog):
    caplog.set_level(logging.DEBUG)
    oanda.fail(*[fault] * 3)

    with impatient(oanda) as client, pytest.raises(OandaError) as caught:
        client.accounts()

    error = caught.value
    shown = [str(error), repr(error), "".join(traceback.format_exception(error)), repr(client), str(vars(client))]
    assert all(TOKEN not in text for text in shown)
    ours = [record.getMessage() for record in caplog.records if fault != "500 quoting the token"]
    assert all(TOKEN not in text for text in ours)


@pytest.mark.parametrize("token", ["", "two words", "line\nbreak", "tokén"])
def test_a_token_that_is_no_header_value_is_refused_without_being_shown(token):
    with pytest.raises(ConfigError, match="token is empty, or holds a space") as caught:
        OandaClient("http://127.0.0.1:1", SecretStr(token))

    assert not token or token not in str(caught.value)


def test_a_login_in_netrc_does_not_take_the_place_of_the_token(oanda, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("default login someone password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setattr("mbats.oanda.sessions.LOOPBACK", ())

    with impatient(oanda) as client:
        assert client.accounts() == [ACCOUNT]


def test_a_proxy_of_the_environment_does_not_stand_between_us_and_the_simulator(oanda, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")

    with impatient(oanda) as client:
        assert client.accounts() == [ACCOUNT]


# --- Threads and instances ---------------------------------------------------------------------------------------


def test_each_thread_has_one_connection_and_keeps_it(client, oanda):
    together = threading.Barrier(2)

    def ask_twice(_: int) -> list[str]:
        together.wait(timeout=5)
        return client.accounts() + client.accounts()

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(ask_twice, range(2))) == [[ACCOUNT] * 2] * 2

    assert len(oanda.seen) == 4
    assert len({seen.connection for seen in oanda.seen}) == 2


def test_new_connections_keep_their_own_rate(oanda):
    with impatient(oanda, connections_per_second=5) as client, ThreadPoolExecutor(3) as pool:
        together = threading.Barrier(3)
        began = time.monotonic()
        list(pool.map(lambda _: (together.wait(timeout=5), client.accounts()), range(3)))

    assert time.monotonic() - began >= 2 / 5


def test_two_clients_in_one_process_keep_their_own_addresses(oanda):
    other = FakeOanda()
    before = dict(TRADING_ENVIRONMENTS)

    with impatient(oanda) as one, impatient(other) as two:
        one.accounts()
        two.accounts()
        one.accounts()

    assert (len(oanda.seen), len(other.seen)) == (2, 1)
    assert {name: TRADING_ENVIRONMENTS[name] for name in before} == before
    other.close()


def test_a_client_that_is_gone_leaves_nothing_in_the_table_of_environments():
    before = dict(TRADING_ENVIRONMENTS)
    client = OandaClient("http://127.0.0.1:1", SecretStr(TOKEN))
    assert before != TRADING_ENVIRONMENTS

    del client

    assert before == TRADING_ENVIRONMENTS


def test_calls_of_all_threads_keep_the_rate_together(oanda):
    with impatient(oanda, requests_per_second=20) as client, ThreadPoolExecutor(2) as pool:
        client.accounts()
        began = time.monotonic()
        list(pool.map(lambda _: client.accounts(), range(8)))
        took = time.monotonic() - began

    assert took >= 7 / 20


# --- Settings: the simulator, practice and live differ by address and token, nothing else ------------------------


@pytest.mark.parametrize(
    ("chosen", "url", "token"),
    [
        ({}, "http://127.0.0.1:8090", "of-simulator"),
        ({"simulator_port": 18090}, "http://127.0.0.1:18090", "of-simulator"),
        ({"oanda_environment": "practice"}, "https://api-fxpractice.oanda.com", "of-oanda"),
        ({"oanda_environment": "live"}, "https://api-fxtrade.oanda.com", "of-oanda"),
    ],
)
def test_the_environment_chooses_address_and_token(chosen, url, token, tmp_path):
    settings = settings_with(tmp_path, oanda_token="of-oanda", simulator_token="of-simulator", **chosen)

    client = OandaClient.from_settings(settings)

    assert client.url == url
    assert client.sessions._token.get_secret_value() == token


@pytest.mark.parametrize(
    ("chosen", "missing"),
    [
        ({"oanda_environment": "practice", "simulator_token": "s"}, "MBATS_OANDA_TOKEN"),
        ({"oanda_environment": "live", "simulator_token": "s"}, "MBATS_OANDA_TOKEN"),
        ({"oanda_token": "t"}, "MBATS_SIMULATOR_TOKEN"),
    ],
)
def test_a_missing_token_is_named(chosen, missing, tmp_path):
    with pytest.raises(ConfigError, match=missing):
        OandaClient.from_settings(settings_with(tmp_path, **chosen))


@pytest.mark.parametrize("url", ["127.0.0.1:8090", "ftp://host", "http://", ""])
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(ConfigError, match=r"expected http\(s\)://host"):
        OandaClient(url, SecretStr(TOKEN))


def settings_with(home, **chosen) -> Settings:
    return load_settings(home=home, **chosen)
