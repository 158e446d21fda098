"""Who gets in, how often, and what every answer carries."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests
from simulated import ACCOUNT, Simulated
from simulator.served import OTHER_ACCOUNT, READER, STRANGER, TIMEOUT, Scripted

from mbats import __version__
from mbats.simulator.limits import RateLimit

UNAUTHORIZED = (401, {"errorMessage": "Insufficient authorization to perform request."})
FORBIDDEN = (403, {"errorMessage": "The provided request was forbidden."})


@pytest.fixture(scope="module")
def served() -> Iterator[Scripted]:
    server = Scripted()
    yield server
    server.close()


@pytest.mark.parametrize(
    "header", [None, "a-token-that-trades", "Bearer", "Bearer wrong", "Basic a-token-that-trades", "Bearer ü"]
)
def test_nobody_gets_in_without_a_token(served, header):
    encoded = header.encode() if header else None
    for path in ("/v3/accounts", "/v3/instruments/EUR_USD/candles", "pricing", "/v3/nothing"):
        answer = served.get(path, headers={"Authorization": encoded})
        assert (answer.status, answer.body) == UNAUTHORIZED


def test_health_needs_no_token_and_says_what_the_prices_are(served):
    body = requests.get(f"{served.url}/healthz", timeout=TIMEOUT).json()

    assert (body["status"], body["version"]) == ("ok", __version__)
    assert body["prices"] == "prices scripted by whoever runs the simulator"
    assert body["instruments"] == ["EUR_USD", "USD_JPY", "GBP_USD"]


def test_a_token_opens_the_accounts_of_its_user_and_no_others(served):
    stranger = {"Authorization": f"Bearer {STRANGER}"}

    assert served.get("/v3/accounts").body == {"accounts": [{"id": ACCOUNT, "tags": []}]}
    assert served.get("/v3/accounts", headers=stranger).body == {"accounts": []}
    assert served.get("/v3/instruments/EUR_USD/candles", headers=stranger).status == 200
    for path in ("", "summary", "orders", "transactions", "candles/latest", "instruments/EUR_USD/candles"):
        answer = served.get(path, headers=stranger)
        assert (answer.status, answer.body) == FORBIDDEN
    assert served.get(f"/v3/accounts/{OTHER_ACCOUNT}").status == 403
    malformed = served.get("/v3/accounts/mine")
    assert (malformed.status, malformed.body) == (400, {"errorMessage": "Invalid value specified for 'accountID'"})


def test_a_token_that_only_reads_can_do_nothing_else(served):
    reader = {"Authorization": f"Bearer {READER}"}
    order = {"order": {"type": "MARKET", "instrument": "EUR_USD", "units": "1"}}

    assert served.get("summary", headers=reader).status == 200
    for method, path in (("POST", "orders"), ("PUT", "orders/1"), ("PUT", "orders/1/cancel"), ("PATCH", "configuration")):
        answer = served.call(method, path, body=order, headers=reader)
        assert (answer.status, answer.body) == FORBIDDEN
    assert served.exchange.account.last_id == 2


def test_every_answer_has_a_request_id_of_its_own_and_the_exchanges_date(served):
    answers = [served.get(path) for path in ("/v3/accounts", "/v3/nothing", "summary", "orders/9")]
    answers.append(served.get("summary", headers={"Authorization": "none"}))

    assert len({answer.headers["RequestID"] for answer in answers}) == 5
    assert {answer.headers["Date"] for answer in answers} == {"Tue, 05 Mar 2024 12:00:03 GMT"}


def test_the_request_id_of_a_write_is_the_one_in_its_transactions(served):
    done = served.order(100)
    refused = served.order(0)
    lost = served.put("orders/999/cancel")

    assert done.headers["RequestID"] == done.body["orderFillTransaction"]["requestID"]
    assert refused.headers["RequestID"] == refused.body["orderRejectTransaction"]["requestID"]
    assert lost.headers["RequestID"] == lost.body["orderCancelRejectTransaction"]["requestID"]


def test_unknown_paths_and_wrong_methods_get_error_bodies(served):
    for path in ("/v3", "/v3/users", "/v3/instruments/EUR_USD/orderBook", "/v3/instruments/EUR_USD/positionBook", "orders/1/2"):
        answer = served.get(path)
        assert (answer.status, answer.body) == (404, {"errorMessage": "Not Found"})
    wrong = [("DELETE", "orders/1", "GET,PUT"), ("POST", "/v3/accounts", "GET"), ("GET", "configuration", "PATCH")]
    for method, path, allowed in wrong:
        answer = served.call(method, path)
        assert (answer.status, answer.headers["Allow"]) == (405, allowed)
        assert answer.body == {"errorMessage": "Method Not Allowed"}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "Missing JSON body"),
        (b"  ", "Missing JSON body"),
        (b"{", "Invalid JSON body"),
        (b"[]", "Invalid JSON body"),
        (b"null", "Invalid JSON body"),
        (b'"order"', "Invalid JSON body"),
        (b'{"order": {"units": NaN}}', "Invalid JSON body"),
        (b'{"order": "\xff"}', "Invalid JSON body"),
        (b"{}", "The request was missing required data"),
        (b'{"order": null}', "The request was missing required data"),
        (b'{"order": []}', "Invalid value specified for 'order'"),
    ],
)
def test_a_body_that_is_no_request_is_refused_and_leaves_no_transaction(served, body, words):
    before = served.exchange.account.last_id

    answer = served.post("orders", body)

    assert (answer.status, answer.body) == (400, {"errorMessage": words})
    assert served.exchange.account.last_id == before


def test_a_body_that_is_far_too_long_is_refused(served):
    answer = served.post("orders", b'{"order": {"x": "' + b"x" * 2_000_000 + b'"}}')

    assert answer.status == 413
    assert answer.body["errorMessage"]


def test_times_come_as_seconds_when_the_client_asks_for_unix(served):
    unix = {"Accept-Datetime-Format": "UNIX"}
    stop_loss = {"price": "1.05", "timeInForce": "GTD", "gtdTime": "2024-03-06T00:00:00Z"}
    created = served.order(100, stopLossOnFill=stop_loss)
    number = created.body["orderFillTransaction"]["id"]
    transaction = served.get(f"transactions/{number}", headers=unix).body["transaction"]
    page = served.get("transactions", headers=unix).body

    assert served.get("summary", headers=unix).body["account"]["createdTime"] == "1104710400.000000000"
    assert transaction["time"] == "1709640003.000000000"
    assert transaction["fullPrice"]["timestamp"] == "1709640000.000000000"
    stop = served.get("orders", headers=unix).body["orders"][0]
    assert (stop["gtdTime"], stop["createTime"]) == ("1709683200.000000000", "1709640003.000000000")
    assert (page["from"], page["to"]) == ("1104710400.000000000", "1709640003.000000000")
    assert served.get("summary", headers={"Accept-Datetime-Format": "iso"}).status == 400


def test_a_write_may_be_answered_in_unix_seconds_and_is_kept_in_rfc_3339(served):
    order = {"order": {"type": "MARKET", "instrument": "EUR_USD", "units": "1"}}
    answer = served.post("orders", order, headers={"Accept-Datetime-Format": "UNIX"})

    assert answer.body["orderFillTransaction"]["time"] == "1709640003.000000000"
    assert served.exchange.account.transactions[-1]["time"] == "2024-03-05T12:00:03.000000000Z"


def test_a_wrong_time_format_is_refused_before_anything_is_done(served):
    before = served.exchange.account.last_id
    order = {"order": {"type": "MARKET", "instrument": "EUR_USD", "units": "1"}}

    answer = served.post("orders", order, headers={"Accept-Datetime-Format": "iso"})

    assert (answer.status, answer.body["errorMessage"]) == (400, "Invalid value specified for 'Accept-Datetime-Format'")
    assert served.exchange.account.last_id == before


def test_more_than_a_hundred_and_twenty_requests_a_second_are_too_many():
    clock = [0.0]
    limit = RateLimit(120, lambda: clock[0])

    assert [limit.allows("a") for _ in range(121)] == [True] * 120 + [False]
    assert limit.allows("b")
    clock[0] = 0.5
    assert [limit.allows("a") for _ in range(61)] == [True] * 60 + [False]


def test_a_client_over_the_limit_is_told_so_and_health_is_not_limited():
    with Scripted(Simulated(), limit=RateLimit(2, lambda: 0.0)) as server:
        answers = [server.get("/v3/accounts") for _ in range(3)]

        assert [answer.status for answer in answers] == [200, 200, 429]
        assert answers[2].body == {"errorMessage": "Rate limit exceeded. At most 120 requests a second are answered."}
        assert requests.get(f"{server.url}/healthz", timeout=TIMEOUT).status_code == 200


def test_an_error_of_the_simulators_own_is_a_500_with_a_body_and_is_logged(served, monkeypatch, caplog):
    monkeypatch.setattr(type(served.exchange.engine), "cancel_order", lambda *_: 1 / 0)

    answer = served.put("orders/1/cancel")

    assert (answer.status, answer.body) == (500, {"errorMessage": "Internal error of the simulator; its log has the details."})
    assert "ZeroDivisionError" in caplog.text
