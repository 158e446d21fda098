"""The door for commands, asked over real HTTP: who may, what is obeyed, and what a refusal says."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
import requests
from platforms import eventually
from pydantic import SecretStr

from mbats.errors import OandaUnavailable, PlatformError, UsageError
from mbats.live.deployment import Deployment, Desired, State
from mbats.live.gate import Command, CommandKind, Mode, TradingState
from mbats.live.hosting.client import TraderAway, TraderClient
from mbats.live.hosting.control import Control, DeploymentStatus, UnknownDeployment, is_ours
from mbats.settings import Settings, load_settings

NOW = datetime(2024, 5, 14, 10, 0, tzinfo=UTC)
TOKEN = "a-token-of-the-trader"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
DEPLOYMENT = Deployment(
    name="rsi-eurusd",
    strategy="rsi",
    source="# a strategy — with a dash\n",
    parameters={"period": 14, "risk": 0.01, "long_only": False, "note": None},
    symbols=("EUR_USD", "USD_JPY"),
    granularity="M5",
    account="paper",
    mode=Mode.PAPER,
    limits={"max_margin": "0.2"},
    created_at=NOW,
    created_by="ann",
    code_version="1",
    warmup_bars=100,
)
STATUS = DeploymentStatus(
    name="rsi-eurusd",
    strategy="rsi",
    symbols=("EUR_USD",),
    granularity="M5",
    account="paper",
    mode=Mode.PAPER,
    desired=Desired.RUNNING,
    state=State.LIVE,
    trading=TradingState.REDUCING,
    positions={"EUR_USD": Decimal("-1000.5")},
    pnl=Decimal("12.3400"),
    currency="USD",
    last_bar=NOW,
)


@dataclass
class FakeDesk:
    """Remembers what it was told. `hold` holds up every request but commands until it is set."""

    told: list[Any] = field(default_factory=list)
    well: bool = True
    refusal: Exception | None = None
    hold: threading.Event | None = None

    def _do(self, *what: Any) -> None:
        if self.hold is not None:
            self.hold.wait(30)
        if self.refusal is not None:
            raise self.refusal
        self.told.append(what)

    def deploy(self, deployment: Deployment) -> None:
        self._do("deploy", deployment)

    def start(self, name: str) -> None:
        self._do("start", name)

    def stop(self, name: str) -> None:
        self._do("stop", name)

    def command(self, command: Command) -> dict[str, Any]:
        if self.refusal is not None:
            raise self.refusal
        self.told.append(command)
        return {"message": "done", "cancelled": 3}

    def deployments(self) -> list[DeploymentStatus]:
        self._do("deployments")
        return [STATUS]

    def healthy(self) -> tuple[bool, dict[str, Any]]:
        return self.well, {"reason": "" if self.well else "the owner's thread is dead", "lag": Decimal("1.5"), "since": NOW}

    def metrics(self) -> bytes:
        return b"# HELP x y\nx 1\n"


@pytest.fixture
def desk() -> FakeDesk:
    return FakeDesk()


@pytest.fixture
def control(desk: FakeDesk) -> Iterator[Control]:
    control = Control(desk, host="127.0.0.1", port=0, token=SecretStr(TOKEN), now=lambda: NOW)
    control.start()
    yield control
    if desk.hold is not None:
        desk.hold.set()
    control.stop()
    assert not control.alive


@pytest.fixture
def url(control: Control) -> str:
    return f"http://127.0.0.1:{control.port}"


@pytest.fixture
def settings(control: Control, tmp_path) -> Settings:
    return load_settings(home=tmp_path, trader_port=control.port, trader_token=TOKEN)


@pytest.fixture
def client(settings: Settings) -> TraderClient:
    return TraderClient(settings)


def send(url: str, body: Any = None, **options: Any) -> requests.Response:
    return requests.request("POST", url, json=body, headers=HEADERS | options.pop("headers", {}), timeout=10, **options)


def test_a_deployment_arrives_as_it_was_sent(client, desk):
    client.deploy(DEPLOYMENT)

    assert desk.told == [("deploy", DEPLOYMENT)]
    sent = desk.told[0][1]
    assert {name: type(value) for name, value in sent.parameters.items()} == {
        "period": int,
        "risk": float,
        "long_only": bool,
        "note": type(None),
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "Rsi EURUSD"}, "cannot be called"),
        ({"limits": {"max_marginn": "1"}}, "Did you mean max_margin"),
        ({"limits": {"max_margin": "1"}}, "less than or equal to 0.9"),
        ({"symbols": ()}, "needs symbols"),
        ({"symbols": ("EUR_USD", "EUR_USD")}, "each once"),
        ({"granularity": "M3"}, "which OANDA has not"),
        ({"warmup_bars": -1}, "-1 bars"),
    ],
)
def test_a_deployment_that_cannot_be_is_refused_before_the_desk_hears_of_it(client, desk, change, message):
    with pytest.raises(UsageError, match=message):
        client.deploy(replace(DEPLOYMENT, **change))

    assert desk.told == []


def test_a_deployment_with_a_part_missing_is_refused_by_the_name_of_the_part(url, desk):
    answer = send(f"{url}/deployments", {"name": "x"})

    assert answer.status_code == 400
    assert "strategy: " in answer.json()["error"] and "Nothing was done" in answer.json()["error"]
    assert desk.told == []


def test_start_and_stop_name_one_deployment(client, desk):
    client.start("rsi-eurusd")
    client.stop("rsi-eurusd")

    assert desk.told == [("start", "rsi-eurusd"), ("stop", "rsi-eurusd")]


@pytest.mark.parametrize("kind", list(CommandKind))
@pytest.mark.parametrize("name", [None, "rsi-eurusd"])
def test_a_command_carries_who_and_why_and_the_traders_own_time(client, desk, kind, name):
    said = client.command(Command(kind, "ann@desk", datetime(2031, 1, 1, tzinfo=UTC), "the news", name))

    assert desk.told == [Command(kind, "ann@desk", NOW, "the news", name)]
    assert said == {"message": "done", "cancelled": 3}


def test_resume_may_loosen_a_part_of_the_way(client, desk):
    client.command(Command(CommandKind.RESUME, "ann", NOW, "slowly", to=TradingState.REDUCING))

    assert desk.told[0].to is TradingState.REDUCING


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"by": "ann"},
        {"by": " ", "why": "x"},
        {"by": "a", "why": "x", "deploymnt": "y"},
        {"by": "a", "why": "x", "to": "HALTED"},
    ],
)
def test_a_command_that_leaves_something_open_is_refused(url, desk, body):
    assert send(f"{url}/halt", body).status_code == 400
    assert desk.told == []


def test_deployments_come_back_exactly_as_the_desk_has_them(client):
    assert client.deployments() == [STATUS]


def test_one_deployment_is_shown_by_its_name_and_an_unknown_one_is_answered_with_the_nearest(url):
    assert requests.get(f"{url}/deployments/rsi-eurusd", headers=HEADERS, timeout=10).json()["positions"] == {
        "EUR_USD": "-1000.5"
    }
    unknown = requests.get(f"{url}/deployments/rsi-eursd", headers=HEADERS, timeout=10)
    assert unknown.status_code == 404
    assert "Did you mean 'rsi-eurusd'" in unknown.json()["error"]


def test_health_is_told_to_anybody_and_tells_no_more_than_that(url, desk):
    well = requests.get(f"{url}/healthz", timeout=10)
    desk.well = False
    unwell = requests.get(f"{url}/healthz", timeout=10)

    assert (well.status_code, well.json()["status"]) == (200, "ok")
    assert (unwell.status_code, set(unwell.json())) == (503, {"status", "version"})


def test_the_state_says_why_the_trader_is_not_well(client, desk):
    desk.well = False

    state = client.state()

    assert (state["healthy"], state["reason"], state["lag"]) == (False, "the owner's thread is dead", "1.5")


def test_figures_are_plain_text_for_prometheus(url):
    answer = requests.get(f"{url}/metrics", timeout=10)

    assert answer.text == "# HELP x y\nx 1\n"
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("GET", path) for path in ("/state", "/deployments", "/deployments/rsi-eurusd", "/no-such-page")),
        *(("POST", path) for path in ("/deployments", "/deployments/x/start", "/deployments/x/stop")),
        *(("POST", f"/{kind}") for kind in CommandKind),
    ],
)
@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Bearer wrong", f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN])
def test_nothing_else_is_answered_without_the_token(url, desk, method, path, header):
    headers = {"Content-Type": "application/json"} | ({} if header is None else {"Authorization": header})

    answer = requests.request(method, f"{url}{path}", data="{}", headers=headers, timeout=10)

    assert answer.status_code == 401
    assert TOKEN not in answer.text
    assert desk.told == []


def test_a_token_with_other_letters_is_refused_like_any_other(url):
    answer = requests.get(f"{url}/state", headers={"Authorization": "Bearer Ünwahr".encode()}, timeout=10)

    assert answer.status_code == 401


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({}, 200),
    ],
)
def test_the_page_of_a_stranger_commands_nothing(url, desk, headers, status):
    headers = HEADERS | {"Content-Type": "application/json"} | headers

    answer = requests.post(f"{url}/halt", data=json.dumps({"by": "a", "why": "b"}), headers=headers, timeout=10)

    assert answer.status_code == status
    assert len(desk.told) == (status == 200)


def test_its_own_address_as_origin_is_no_strangers(url, desk):
    assert send(f"{url}/halt", {"by": "a", "why": "b"}, headers={"Origin": url}).status_code == 200


@pytest.mark.parametrize(
    ("host", "alone", "exposed"),
    [
        ("127.0.0.1:8095", True, True),
        ("localhost", True, True),
        ("[::1]:8095", True, True),
        ("192.168.1.7:8095", False, True),
        ("trader:8095", False, True),
        ("evil.example:8095", False, False),
        ("", False, False),
        ("[", False, False),
    ],
)
def test_a_host_is_ours_when_no_strangers_name_can_lead_to_it(host, alone, exposed):
    assert (is_ours(host, exposed=False), is_ours(host, exposed=True)) == (alone, exposed)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UsageError("no"), 400),
        (UnknownDeployment("x", ["y"]), 404),
        (PlatformError("away"), 503),
        (OandaUnavailable("away"), 503),
        (RuntimeError("a secret detail"), 500),
    ],
)
def test_a_refusal_of_the_desk_is_told_with_a_status_that_says_whose_fault_it_is(url, desk, error, status, caplog):
    desk.refusal = error

    answer = send(f"{url}/deployments/rsi/start", {})

    assert answer.status_code == status
    assert "a secret detail" not in answer.text
    assert ("a secret detail" in caplog.text) == (status == 500)
    assert status == 500 or answer.json()["error"] == str(error)


def test_a_halt_does_not_wait_for_requests_that_hang(client, url, desk):
    desk.hold = threading.Event()
    hanging = [threading.Thread(target=send, args=(f"{url}/deployments/{n}/start", {}), daemon=True) for n in range(20)]
    for thread in hanging:
        thread.start()

    client.command(Command(CommandKind.HALT, "ann", NOW, "now"))

    assert [told.kind for told in desk.told] == [CommandKind.HALT]
    assert requests.get(f"{url}/healthz", timeout=10).status_code == 200
    desk.hold.set()
    assert eventually(lambda: len(desk.told) == 21, within=20)


def test_a_command_is_obeyed_although_its_sender_hangs_up(url, desk):
    desk.hold = threading.Event()
    names = [str(number) for number in range(6)]  # more than are carried out at once
    for name in names:
        with pytest.raises(requests.ReadTimeout):
            requests.post(f"{url}/deployments/{name}/stop", json={}, headers=HEADERS, timeout=(5, 0.3))
    desk.hold.set()

    assert eventually(lambda: sorted(desk.told) == [("stop", name) for name in names], within=10)


def test_a_port_that_is_taken_is_said_as_it_is(control, desk):
    second = Control(desk, host="127.0.0.1", port=control.port, token=SecretStr(TOKEN))

    with pytest.raises(PlatformError, match=r"cannot take commands on 127.0.0.1:\d+: .*MBATS_TRADER_PORT"):
        second.start()

    second.stop()


def test_a_trader_without_a_token_is_not_started(desk):
    with pytest.raises(PlatformError, match="token is empty"):
        Control(desk, host="127.0.0.1", port=0, token=SecretStr(""))


# --- The command line's side ------------------------------------------------------------------------------------------------


def test_nobody_at_the_port_is_a_trader_that_is_away(client, control):
    control.stop()

    with pytest.raises(TraderAway, match="does not answer"):
        client.deployments()


def test_a_wrong_token_a_failure_and_no_answer_in_time_are_no_answer_either(settings, desk):
    wrong = TraderClient(settings.model_copy(update={"trader_token": SecretStr("wrong")}))
    with pytest.raises(TraderAway, match="401"):
        wrong.deployments()
    desk.hold = threading.Event()
    with pytest.raises(TraderAway, match="timed out"):
        TraderClient(settings, timeout=0.3).deployments()
    desk.hold.set()
    desk.refusal = RuntimeError("broken")
    with pytest.raises(TraderAway, match="500"):
        TraderClient(settings).command(Command(CommandKind.HALT, "a", NOW, "b"))
