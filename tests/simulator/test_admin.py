"""The admin port: what it does and tells, and who is not let in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families
from simulator.running import ACCOUNT, HEADERS, TOKEN, Running, scripted_settings
from simulator.test_faults import raw_stream

from mbats.simulator.admin.api import ROUTES
from mbats.simulator.admin.door import _is_ours

JSON = {"Content-Type": "application/json"}
ACCOUNT_PATH = f"/accounts/{ACCOUNT}"


def send(running: Running, method: str, path: str, content: str = "{}", **headers: str) -> requests.Response:
    return requests.request(method, f"{running.admin_url}{path}", data=content, headers=JSON | headers, timeout=30)


def transactions(running: Running) -> int:
    return int(running.admin("GET", "/log")["transactions"])


# --- Who is let in -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:1"}, 403),
        ({"Host": "evil.example"}, 403),
        ({"Host": "evil.example:8092"}, 403),
        ({"Host": "192.168.1.7"}, 403),
        ({"Host": "[::1"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": "multipart/form-data; boundary=x"}, 415),
        ({"Content-Type": "application/json; charset=utf-8"}, 200),
        ({"Host": "localhost"}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
    ],
)
def test_a_strangers_page_cannot_drive_the_exchange(fresh, headers, status):
    before = fresh.admin("GET", "/clock")["time"]
    response = send(fresh, "POST", "/clock/step", '{"seconds": 60}', **headers)

    assert response.status_code == status
    assert (fresh.admin("GET", "/clock")["time"] == before) == (status != 200)
    assert not [name for name in response.headers if name.lower().startswith("access-control-")]


def test_a_browser_that_asks_first_is_told_no(fresh):
    asks = {"Origin": "https://evil.example", "Access-Control-Request-Method": "DELETE"}
    response = send(fresh, "OPTIONS", "/faults", "", **asks)

    assert response.status_code == 403
    assert "Access-Control-Allow-Origin" not in response.headers


def test_the_pages_own_origin_is_let_in(fresh):
    assert send(fresh, "POST", "/clock/step", '{"seconds": 1}', Origin=fresh.admin_url).status_code == 200


@pytest.mark.parametrize(
    ("host", "here", "exposed"),
    [
        ("127.0.0.1:8092", True, True),
        ("localhost", True, True),
        ("[::1]:8092", True, True),
        ("192.168.1.7:8092", False, True),
        ("simulator:8092", False, True),
        ("evil.example", False, False),
        ("", False, False),
        ("[", False, False),
    ],
)
def test_which_names_a_host_has(host, here, exposed):
    assert (_is_ours(host, exposed=False), _is_ours(host, exposed=True)) == (here, exposed)


# --- The clock ---------------------------------------------------------------------------------------------------------------


def test_the_clock_is_stepped_and_told(fresh):
    fresh.step(3600)
    fresh.admin("POST", "/clock/step", {"until": "2024-05-14T12:00:00Z"})
    clock = fresh.admin("GET", "/clock")

    assert clock["time"] == clock["engineTime"] == "2024-05-14T12:00:00.000000000Z"
    assert (clock["mode"], clock["speed"], clock["running"]) == ("step", None, False)


def test_the_clock_is_stepped_by_prices(fresh):
    for second in (10, 20, 30):
        tick = {"change": "tick", "instrument": "EUR_USD", "bid": f"1.080{second}", "ask": f"1.081{second}"}
        fresh.admin("POST", "/market", tick | {"time": f"2024-05-14T10:00:{second}Z"})

    stepped = fresh.admin("POST", "/clock/step", {"ticks": 2, "instruments": "EUR_USD"})

    assert (stepped["ticks"], stepped["time"]) == (2, "2024-05-14T10:00:20.000001000Z")
    assert fresh.admin("GET", "/prices")["prices"][0]["closeoutBid"] == "1.08020"


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/clock/step", {}, "one of 'seconds', 'until' and 'ticks'"),
        ("/clock/step", {"seconds": 1, "ticks": 1}, "one of 'seconds', 'until' and 'ticks'"),
        ("/clock/step", {"seconds": 0}, "seconds: Input should be greater than 0"),
        ("/clock/step", {"until": "2024-05-14T09:00:00Z"}, "lies before that"),
        ("/clock/step", {"until": "noon"}, "Invalid value specified for 'until'"),
        ("/clock/step", {"ticks": 1, "instruments": "EUR_XXX"}, "Invalid value specified for 'instruments'"),
        ("/clock", {"mode": "backwards"}, "mode: Input should be 'realtime', 'shift', 'accelerated', 'step' or 'asap'"),
        ("/clock", {"mode": "step", "until": "2024-05-14T12:00:00Z"}, "'until' says to where asap runs"),
        ("/clock", {"mode": "accelerated", "speed": 0}, "speed"),
        ("/clock", {"mode": "shift"}, "Prices are shifted from the start or not at all"),
        ("/clock/jump", {}, "seconds: Field required"),
        ("/clock/jump", {"second": 1}, "second: Extra inputs are not permitted"),
        ("/price", {"instrument": "EUR_USD", "bid": "1.1"}, "ask: Field required"),
        ("/price", {"instrument": "EUR_USD", "bid": "1.2", "ask": "1.1"}, "below 'bid'"),
        ("/price", {"instrument": "EUR_USD", "bid": "1", "ask": "1", "time": "2024-05-14T09:00:00Z"}, "lies before"),
        ("/halt", {"instrument": "XAU_USD"}, "'instrument' is 'XAU_USD'"),
        ("/market", {"change": "earthquake"}, "'change' is 'earthquake'"),
        ("/strip_on_fill", {}, "on: Field required"),
        (f"{ACCOUNT_PATH}/transfer", {"amount": "a lot"}, "amount"),
        (f"{ACCOUNT_PATH}/orders", {}, "order: Field required"),
        ("/faults", {"action": {"do": "explode"}}, "No fault was set"),
        ("/faults", {"action": {"do": "market", "change": {"change": "earthquake"}}}, "'change' is 'earthquake'"),
        ("/restore", {"name": "yesterday"}, "No snapshot 'yesterday'"),
        ("/snapshot", {"name": "../../etc"}, "is no name"),
        ("/reset", {"really": True}, "really: Extra inputs"),
    ],
)
def test_what_cannot_be_done_says_why_and_is_not_done(fresh, path, body, words):
    before = fresh.admin("GET", "/log"), fresh.admin("GET", "/market"), fresh.admin("GET", "/faults")
    response = requests.post(f"{fresh.admin_url}{path}", json=body, timeout=30)

    assert response.status_code == 400
    assert words in response.json()["errorMessage"]
    assert (fresh.admin("GET", "/log"), fresh.admin("GET", "/market"), fresh.admin("GET", "/faults")) == before


@pytest.mark.parametrize("path", ["/clock/step", "/market", "/faults"])
@pytest.mark.parametrize("content", ["{", "[", '"text"', "[1]"])
def test_a_body_that_is_no_json_object_is_refused(fresh, path, content):
    assert send(fresh, "POST", path, content).status_code == 400


# --- The market and the accounts -----------------------------------------------------------------------------------------------


def test_prices_are_set_halted_and_resumed(fresh):
    fresh.price("1.09000", "1.09020")
    (price,) = fresh.admin("GET", "/prices")["prices"]
    fresh.admin("POST", "/halt", {"instrument": "EUR_USD"})
    halted = fresh.admin("GET", "/prices")["prices"][0]["tradeable"]
    fresh.admin("POST", "/resume")

    assert (price["closeoutBid"], price["tradeable"]) == ("1.09000", True)
    assert not halted
    assert fresh.admin("GET", "/prices")["prices"][0]["tradeable"]
    assert [change["change"] for change in fresh.admin("GET", "/market")["changes"]] == ["tick", "tick", "halt", "resume"]


def test_accounts_are_shown_paid_into_traded_on_and_closed_out(fresh):
    fresh.admin("POST", f"{ACCOUNT_PATH}/transfer", {"amount": "500.25", "comment": "bonus"})
    bought = fresh.admin("POST", f"{ACCOUNT_PATH}/orders", {"order": {"type": "MARKET", "instrument": "EUR_USD", "units": "100"}})
    trade = bought["orderFillTransaction"]["id"]
    fresh.admin("POST", f"{ACCOUNT_PATH}/trades/{trade}/close", {"units": "40"})
    shown = fresh.admin("GET", ACCOUNT_PATH)["account"]
    closed = fresh.admin("POST", f"{ACCOUNT_PATH}/closeout")
    fresh.admin("POST", f"{ACCOUNT_PATH}/reset_pl")

    assert [each["currentUnits"] for each in shown["trades"]] == ["60"]
    assert [each["type"] for each in closed["transactions"]] == ["MARKET_ORDER", "ORDER_FILL"]
    (account,) = fresh.admin("GET", "/accounts")["accounts"]
    assert (account["openTradeCount"], account["resettablePL"]) == (0, "0.0000")
    actions = [entry["action"] for entry in fresh.journal(kind="admin", account=ACCOUNT)]
    assert actions == ["transfer", "external_order", "external_close", "margin_closeout", "reset_pl"]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_account_that_is_none_is_not_found(fresh, method):
    path = "/accounts/101-004-1-001" + ("/closeout" if method == "POST" else "")

    response = send(fresh, method, path)
    assert response.status_code == 404
    assert f"Known: {ACCOUNT}" in response.json()["errorMessage"]


def test_orders_on_fill_are_dropped_until_told_otherwise(fresh):
    bracket = {"stopLossOnFill": {"price": "1.07000"}}
    assert fresh.admin("POST", "/strip_on_fill", {"on": True}) == {"on": True}
    fresh.buy(order=bracket)
    fresh.admin("POST", "/strip_on_fill", {"on": False})
    fresh.buy(order=bracket)

    assert len(fresh.account("GET", "/pendingOrders").json()["orders"]) == 1


# --- Faults, journal, metrics --------------------------------------------------------------------------------------------------


def test_faults_are_listed_shown_and_deleted_with_what_they_did(fresh):
    hit, missed = fresh.fault({"do": "answer", "status": 500}, path="*/summary", times=1), fresh.fault("reset", path="/nowhere")
    fresh.account("GET", "/summary")

    assert [each["id"] for each in fresh.admin("GET", "/faults")["faults"]] == [hit, missed]
    assert [each["id"] for each in fresh.admin("GET", "/faults?never_hit=true")["faults"]] == [missed]
    shown = fresh.admin("GET", f"/faults/{hit}")["fault"]
    assert (shown["hits"], shown["seen"], shown["active"]) == (1, 1, False)
    assert shown["match"] == {"path": "*/summary", "times": 1}
    assert fresh.admin("DELETE", f"/faults/{missed}")["fault"]["hits"] == 0
    assert [each["hits"] for each in fresh.admin("DELETE", "/faults")["faults"]] == [1]
    assert fresh.admin("GET", "/faults") == {"faults": []}
    assert send(fresh, "GET", f"/faults/{hit}").status_code == 404
    assert send(fresh, "DELETE", "/faults/first").status_code == 404


def test_the_journal_has_every_request_and_answer_and_no_token(fresh):
    fresh.buy(7, order={"clientExtensions": {"comment": f"my token is {TOKEN}"}})
    fresh.account("GET", f"/orders?ids={TOKEN}")
    fresh.ask("GET", "/accounts", headers={"Authorization": f"Bearer {TOKEN}x"})
    with raw_stream(fresh, query=f"?token={TOKEN}"):
        pass

    order, orders, refused = fresh.journal(kind="request")
    assert (order["method"], order["path"], order["account"]) == ("POST", f"/v3/accounts/{ACCOUNT}/orders", ACCOUNT)
    assert order["request"]["order"]["units"] == "7"
    assert order["response"]["orderFillTransaction"]["units"] == "7"
    assert (order["status"], order["told"], order["outcome"], order["listener"]) == (201, 201, "answered", "rest")
    assert orders["query"] == {"ids": "[token]"}
    assert refused["status"] == 401
    text = requests.get(f"{fresh.admin_url}/journal", timeout=30).text
    assert TOKEN not in text
    assert "Bearer" not in text
    assert fresh.admin("GET", "/journal?colour=red", status=400)["errorMessage"].startswith("The journal cannot be asked so")
    fresh.admin("DELETE", "/journal")
    assert fresh.journal() == []


def metrics(running: Running) -> dict[str, float]:
    """Every figure by its name and labels, as a Prometheus would read it."""
    text = requests.get(f"{running.admin_url}/metrics", timeout=30).text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {f"{each.name}{sorted(each.labels.items())}": each.value for each in samples}


def test_prometheus_can_read_what_happens(fresh):
    told = "mbats_simulator_requests_total[('listener', 'rest'), ('method', 'POST'), ('told', '201')]"
    fills = "mbats_simulator_transactions_total[('type', 'ORDER_FILL')]"
    before = metrics(fresh)
    fresh.buy()
    with raw_stream(fresh):
        during = metrics(fresh)

    assert during[told] == before.get(told, 0) + 1
    assert during[fills] == before.get(fills, 0) + 1
    assert during["mbats_simulator_open_trades[]"] == 1
    assert during["mbats_simulator_open_streams[]"] == 1
    assert during["mbats_simulator_time_seconds[]"] == 1715680800.000001


# --- The log -------------------------------------------------------------------------------------------------------------------


def test_a_snapshot_is_gone_back_to(fresh):
    fresh.buy()
    kept = fresh.admin("GET", "/log")
    path = Path(fresh.admin("POST", "/snapshot", {"name": f"before-{fresh.admin_url[-5:]}"})["path"])
    fresh.price("1.05000", "1.05010")
    fresh.buy()
    fresh.step(3600)
    after = fresh.admin("GET", "/log")
    restored = fresh.admin("POST", "/restore", {"name": path.stem})

    assert kept["digest"] != after["digest"]
    assert fresh.admin("GET", "/log") == kept
    assert restored == {"engineTime": kept["engineTime"], "digest": kept["digest"]}
    assert fresh.admin("GET", "/snapshots")["snapshots"] == [path.stem]
    assert fresh.admin("GET", "/prices")["prices"][0]["closeoutBid"] == "1.08000"
    fresh.price("1.05000", "1.05010")
    fresh.buy()
    fresh.step(3600)
    assert fresh.admin("GET", "/log")["digest"] != kept["digest"]
    assert fresh.admin("POST", "/snapshot", {"name": path.stem}, status=400)["errorMessage"].endswith("choose another name.")


def test_a_fork_goes_on_by_itself(fresh, start_simulator, tmp_path):
    fresh.buy()
    here = fresh.admin("GET", "/log")
    data = fresh.admin("POST", "/fork", {"name": f"fork-{tmp_path.name}"})["data"]
    other = start_simulator(**scripted_settings(tmp_path) | {"simulator_data": data})
    same = other.admin("GET", "/log")
    other.buy()

    assert same == here
    assert transactions(other) == here["transactions"] + 2
    assert fresh.admin("GET", "/log") == here


def test_a_reset_begins_anew_with_the_faults_and_the_journal(fresh):
    fresh.buy()
    fresh.fault("hang", path="/never")
    fresh.step(60)
    fresh.admin("POST", "/reset")

    assert fresh.admin("GET", "/log")["engineTime"] == "2024-05-14T10:00:00.000000000Z"
    assert transactions(fresh) == 2
    assert fresh.admin("GET", "/prices") == {"prices": []}
    assert len(fresh.admin("GET", "/faults")["faults"]) == 1
    assert fresh.journal(action="reset")


def test_every_path_answers_and_unknown_ones_do_not(fresh):
    statuses: dict[str, Any] = {}
    for method, path, _ in ROUTES:
        if method == "GET":
            where = path.replace("{account}", ACCOUNT).replace("{fault}", fresh.fault("hang", path="/never"))
            statuses[path] = requests.get(f"{fresh.admin_url}{where}", timeout=30).status_code
    assert set(statuses.values()) == {200}
    nothing, wrong = send(fresh, "GET", "/nothing"), send(fresh, "DELETE", "/clock")
    assert (nothing.status_code, wrong.status_code, wrong.headers["Allow"]) == (404, 405, "GET,POST")
    assert "errorMessage" in nothing.json()


def test_clients_ports_do_not_administrate(fresh):
    for url in (fresh.url, fresh.stream_url):
        assert requests.post(f"{url}/clock/step", json={"seconds": 1}, headers=HEADERS, timeout=30).status_code == 404
